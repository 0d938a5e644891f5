"""What is in memory is read as the same rows in a file would be, and is the same data however it is held."""

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pytest

from thalweg.errors import DataError
from thalweg.prompts import open_labelled, open_source

TEXTS = ["one text", "another", "a third \N{SNOWMAN}"]
ROWS = [{"text": text, "place": {"page": number}, "n": number} for number, text in enumerate(TEXTS)]
HELD = {
    "list": TEXTS,
    "tuple of records": tuple(ROWS),
    "polars": pl.DataFrame(ROWS),
    "polars lazy": pl.LazyFrame(ROWS),
    "polars column": pl.DataFrame(ROWS)["text"],
    "pandas": pd.DataFrame(ROWS),
    "pandas column": pd.DataFrame(ROWS)["text"],
    "numpy": np.array(TEXTS),
    "datasets": datasets.Dataset.from_list(ROWS),
    "datasets column": datasets.Dataset.from_list(ROWS)["text"],
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD.keys())
def test_the_same_texts_are_the_same_data(held):
    source = open_source(held)
    assert [row.text for row in source.rows()] == TEXTS
    assert [row.text for row in source.rows(1, 2)] == TEXTS[1:2]
    assert (source.name, source.kind, source.template, source.count()) == ("texts", "memory", "{text}", 3)
    assert source.hash == open_source(TEXTS).hash != open_source([*TEXTS[:2], "other"]).hash


@pytest.mark.parametrize("kind", ["polars", "pandas", "datasets", "tuple of records"])
def test_a_field_is_chosen_as_in_a_file(kind):
    numbered = open_source(HELD[kind], text_field="place.page")
    assert [row.reason for row in numbered.rows()] == ["field is not text"] * 3
    assert open_source(HELD[kind], text_field="text+text", name="mine").name == "mine"
    with pytest.raises(DataError, match=r"texts: no field 'body'; got the fields text, place, n\. Name one"):
        open_source(HELD[kind], text_field="body")
    with pytest.raises(DataError, match="expected a field text, content"):
        open_source(pl.DataFrame({"body": TEXTS}))


def test_rows_without_a_text_are_skipped_with_their_reason():
    for frame in (pl.DataFrame, pd.DataFrame, datasets.Dataset.from_dict):
        rows = open_source(frame({"text": ["a", None, ""]})).rows()
        assert [row.reason for row in rows] == [None, "field missing", "empty text"], frame


def test_more_rows_than_are_read_at_once_keep_their_numbers():
    texts = [f"row {number}" for number in range(150)]
    for held in (texts, pd.DataFrame({"text": texts}), datasets.Dataset.from_dict({"text": texts})):
        assert [(row.number, row.text) for row in open_source(held).rows(60, 140)] == [*enumerate(texts)][60:140]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["a", 3], "expected a list of texts; item 1 is a int: 3"),
        ([None], "item 0 is a NoneType"),
        ([{"text": "a"}, "b"], "expected a list of records; item 1 is a str"),
        ([], "at least one; got none"),
        (pl.DataFrame({"text": []}), "expected at least one row with fields; got none"),
        (["bundled"], r"a list holds texts; got the names of data\. Pass 'bundled'\."),
        (["bundled", "./a.txt"], r"Pass \('bundled', './a\.txt'\)\."),
        (iter("ab"), "expected a name, a file, a list of texts, .* got str_ascii_iterator"),
        (7, "got int"),
        (datasets.DatasetDict(train=HELD["datasets"]), r"one split, such as data\['train'\]; got all of train"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(wrong, said):
    with pytest.raises(DataError, match=said) as told:
        open_source(wrong)
    assert "\n" not in str(told.value)


def test_a_whole_file_is_a_file():
    with pytest.raises(DataError, match=r"expected a \.txt file as --data; got texts"):
        open_source(TEXTS, whole_file=True)


def test_a_frame_has_classes_too():
    frame = pd.DataFrame({"sentence": ["good", "bad"], "label": [1, 0], "picture": [object(), object()]})
    labelled = open_labelled(frame)
    assert [(each.text, each.label) for each in labelled.read().examples] == [("good", "1"), ("bad", "0")]
    assert labelled.hash == open_labelled(pl.DataFrame(frame[["label", "sentence"]].to_dict("list"))).hash
    with pytest.raises(DataError, match="expected a class in the field 'label'; got the fields text"):
        open_labelled(TEXTS)
