"""Labelled rows become examples; rows that do not are counted with the reason, and data without classes are refused."""

import json
import types

import datasets
import huggingface_hub
import pytest

from thalweg.errors import DataError
from thalweg.prompts import Example, open_labelled, split_in_three, splits_on_hub
from thalweg.prompts._data_sets import LABELLED_DATA
from thalweg.prompts._questions import form_of

ARC = {"question": {"stem": "Which?", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}]}}
RECORDS = {
    "arc, as published": {**ARC, "answerKey": "B"},
    "arc, numbered, answered by letter": {
        "question": {"stem": "Which?", "choices": [{"text": "x", "label": "1"}, {"text": "y", "label": "2"}]},
        "answerKey": "B",
    },
    "arc, on the hub": {"question": "Which?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
    "hellaswag": {"ctx": "Which?", "endings": ["x", "y"], "label": "1"},
    "mmlu": {"question": "Which?", "choices": ["x", "y"], "answer": 1},
    "mmlu, by letter": {"question": "Which?", "choices": ["x", "y"], "answer": "B"},
}


def written(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.mark.parametrize("form", RECORDS)
def test_every_form_of_a_question_reads_the_same(tmp_path, form):
    file = written(tmp_path / "questions.jsonl", [RECORDS[form]])
    opened = open_labelled(file)
    assert opened.questions
    assert opened.read().examples == (Example(0, "Which?\nA. x\nB. y", "1", 2),)
    pairs = open_labelled(file, pair=True).read().examples
    assert pairs == (Example(0, "Which? x", "0", 2), Example(0, "Which? y", "1", 2))


def test_a_blank_is_filled_where_it_stands(tmp_path):
    record = {"sentence": "The _ won over the cup.", "option1": "cat", "option2": "dog", "answer": "1"}
    file = written(tmp_path / "w.jsonl", [record])
    (whole,) = open_labelled(file).read().examples
    assert whole == Example(0, "The _ won over the cup.\nA. cat\nB. dog", "0", 2)
    first, second = open_labelled(file, pair=True).read().examples
    assert (first.text, first.label) == ("The cat won over the cup.", "1")
    assert (second.text, second.label) == ("The dog won over the cup.", "0")


def test_questions_that_are_none_are_counted(tmp_path):
    good = RECORDS["hellaswag"]
    bad = [{"label": ""}, {"label": "2"}, {"endings": ["x"], "label": "0"}, {"endings": "xy"}, {"ctx": " "}, {"ctx": 3}]
    read = open_labelled(written(tmp_path / "h.jsonl", [good, *({**good, **one} for one in bad)])).read()
    assert len(read.examples) == 1
    assert (read.rows, dict(read.skipped)) == (7, {"no question with options and one right answer": 6})
    assert form_of(("text", "label")) is None


@pytest.mark.parametrize(
    ("lines", "options", "template"),
    [
        ("good film\t1\nbad film\t0\n", {}, "{column 0} -> {column 1}"),
        ("sentence\tlabel\ngood film\t1\nbad film\t0\n", {}, "{sentence} -> {label}"),
        ("7\tgood film\t1\n8\tbad film\t0\n", {"text_field": "1"}, "{column 1} -> {column 2}"),
        ("1\tgood film\n0\tbad film\n", {"text_field": "1", "label_field": "0"}, "{column 1} -> {column 0}"),
        ("stars\treview\n1\tgood film\n0\tbad film\n", {"text_field": "review", "label_field": "stars"}, None),
    ],
)
def test_a_tsv_has_its_text_and_its_class_where_it_says(tmp_path, lines, options, template):
    file = tmp_path / "films.tsv"
    file.write_text(lines)
    opened = open_labelled(str(file), **options)
    assert [(one.text, one.label) for one in opened.read().examples] == [("good film", "1"), ("bad film", "0")]
    assert opened.template == (template or "{review} -> {stars}")
    assert not opened.questions


def test_labels_of_any_kind_are_words_and_missing_ones_are_counted(tmp_path):
    labels = [3, True, "spam", None, "", [1], 0.5]
    records = [{"text": f"text {row}", "label": label} for row, label in enumerate(labels)]
    records += [{"text": "no label"}, {"text": " ", "label": 1}]
    read = open_labelled(written(tmp_path / "data.jsonl", records)).read()
    assert [(one.row, one.label) for one in read.examples] == [(0, "3"), (1, "1"), (2, "spam")]
    assert dict(read.skipped) == {"empty text": 1, "label missing": 5}
    assert open_labelled(str(tmp_path / "data.jsonl")).read(2).rows == 2


@pytest.mark.parametrize(
    ("record", "options", "said"),
    [
        (
            {"text": "a", "lable": 1},
            {},
            r"class in the field 'label'; got the fields text, lable\. Did you mean --label-",
        ),
        (
            {"text": "a", "label": 1},
            {"label_field": "stars"},
            r"class in the field 'stars'; got the fields text, label",
        ),
        ({"words": "a", "label": 1}, {}, r"expected a field text, .*Name one with --text-field"),
        ({"text": "a", "label": 1}, {"pair": True}, r"--pair: expected questions with options in data\.jsonl"),
    ],
)
def test_data_without_text_or_class_are_refused(tmp_path, record, options, said):
    with pytest.raises(DataError, match=said):
        open_labelled(written(tmp_path / "data.jsonl", [record]), **options)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sts2", r"expected a file, organisation/name on the hub, or one of sst2, arc-easy"),
        ("missing.tsv", "got no such file"),
        ("notes.txt", "plain text, which has no labels"),
    ],
)
def test_a_name_that_means_nothing_is_refused(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("a line\n")
    with pytest.raises(DataError, match=said):
        open_labelled(name)


def test_shares_cover_every_row_once_and_keep_a_question_together():
    examples = [Example(row, f"{row}{option}", "1", 3) for row in range(40) for option in range(3)]
    shares = split_in_three(examples, 123)
    rows = {name: {one.row for one in own} for name, own in shares.items()}
    assert {name: len(own) for name, own in rows.items()} == {"train": 32, "validation": 4, "test": 4}
    assert sorted(row for own in rows.values() for row in own) == list(range(40))
    assert sorted(one.text for own in shares.values() for one in own) == sorted(one.text for one in examples)
    assert split_in_three(examples, 123) == shares
    assert split_in_three(examples, 124) != shares
    with pytest.raises(DataError, match=r"10 rows or more .* got 9\. Give --test"):
        split_in_three(examples[:27], 123)


@pytest.mark.parametrize("known", LABELLED_DATA, ids=lambda known: known.name)
def test_short_names_ask_the_hub_for_the_splits_that_have_labels(monkeypatch, known):
    asked = []

    def load_dataset(*args, **options):
        asked.append((*args, options["split"]))
        return [{"sentence": "fine", "label": 1}] if known.fields else [RECORDS["arc, on the hub"]]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: types.SimpleNamespace(sha="c0ffee"))
    for split in splits_on_hub(known.name).values():
        assert len(open_labelled(known.name, split=split).read().examples) == 1
    config = known.configs[0] if known.configs else None
    assert asked == [(known.hub_id, config, split) for split in splits_on_hub(known.name).values()]
    assert splits_on_hub("films.tsv") is None
