import pytest

from thalweg.errors import DataError
from thalweg.prompts._rows import PREFERRED, Template, choose_template


@pytest.mark.parametrize("position", range(len(PREFERRED)))
def test_the_first_preferred_fields_that_are_there_are_chosen(position):
    fields = tuple(field for wanted in PREFERRED[position:] for field in wanted)
    assert choose_template("data", ("other", *reversed(fields)), None).fields == PREFERRED[position]


def test_half_a_pair_is_not_chosen():
    assert choose_template("data", ("question", "problem", "solution"), None).pattern == "{problem}\n{solution}"


def test_question_and_answer_are_joined_by_a_newline():
    template = choose_template("data", ("question", "answer"), None)
    assert template.pattern == "{question}\n{answer}"
    assert template.row(3, {"question": "How many?", "answer": "Two."}).text == "How many?\nTwo."


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, "field missing"),
        ({"text": None}, "field missing"),
        ({"text": 3}, "field is not text"),
        ({"text": ["a"]}, "field is not text"),
        ({"text": ""}, "empty text"),
        ({"text": " \n\t\u00a0"}, "empty text"),
        ({"text": "half a pair \ud800"}, "text is not valid Unicode"),
    ],
)
def test_a_record_without_a_prompt_gives_its_reason(record, reason):
    row = Template(("text",)).row(7, record)
    assert (row.number, row.text, row.reason) == (7, None, reason)


def test_text_is_left_as_it_is():
    assert Template(("text",)).row(0, {"text": "  a \r\n"}).text == "  a \r\n"


def test_a_dot_reaches_into_nested_records_and_a_literal_name_wins():
    template = choose_template("data", ("a", "a.b"), "a.b")
    assert template.row(0, {"a": {"b": "inside"}, "a.b": "literal"}).text == "literal"
    assert template.row(0, {"a": {"b": "inside"}}).text == "inside"
    assert template.row(0, {"a": "flat"}).reason == "field is text, which has no parts"
    assert set(template.columns) == {"a", "a.b"}


def test_fields_are_joined_in_the_order_asked_for():
    assert choose_template("data", ("a", "b", "c"), "c + a").pattern == "{c}\n{a}"


def test_a_field_whose_name_holds_a_plus_can_be_asked_for():
    assert choose_template("data", ("a+b", "a", "b"), "a+b").fields == ("a+b",)


def test_a_wrong_field_is_answered_with_the_fields_and_the_nearest():
    with pytest.raises(
        DataError, match=r"no field 'txet'; got the fields text, label\. Did you mean --text-field text"
    ):
        choose_template("data.jsonl", ("text", "label"), "txet")


def test_no_known_field_is_answered_with_the_fields():
    with pytest.raises(DataError, match=r"got the fields body, label\. Name one with --text-field"):
        choose_template("data.jsonl", ("body", "label"), None)
