"""Texts with a class each: from what a person types to examples, and from one data set to its splits.

A class is the value of a field, or the index of the right option of a question.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.errors import DataError
from thalweg.paths import data_file
from thalweg.prompts._data_sets import LABELLED_DATA
from thalweg.prompts._files import Tsv, Txt
from thalweg.prompts._hub import HubRows, parse_hub_name
from thalweg.prompts._memory import NAME as MEMORY
from thalweg.prompts._memory import in_memory
from thalweg.prompts._questions import QuestionForm, form_of
from thalweg.prompts._rows import (
    Reader,
    Template,
    choose_template,
    first_found,
    hash_of,
    listed,
    nearest,
    told_to_wait,
    value_of,
)
from thalweg.prompts._source import local_file

NO_LABEL, NO_QUESTION = "label missing", "no question with options and one right answer"
TEXTS = (("text",), ("sentence",), ("content",), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question",))
LABEL = "label"
RIGHT, WRONG = "1", "0"
SHORT_NAMES = {row.name: row for row in LABELLED_DATA}
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


@dataclass(frozen=True)
class Example:
    """A text and its class.

    Attributes:
        row: 0-based row number in the data as read.
        text: what the model reads.
        label: the class.
        options: how many options its question has; 0 where it is none.
    """

    row: int
    text: str
    label: str
    options: int = 0


@dataclass(frozen=True)
class Examples:
    """What the rows of a data set gave.

    Attributes:
        examples: in the order of the rows.
        rows: how many rows were read.
        skipped: rows that gave none, counted by reason.
    """

    examples: tuple[Example, ...]
    rows: int
    skipped: Mapping[str, int]


@dataclass(frozen=True)
class LabelledData:
    """Labelled rows that can be read.

    Attributes:
        name: of the file, the short name, or the hub name as it was typed.
        template: how a row becomes a text and its class.
        hash: sha256 of a file's bytes, or of a hub data set's id, revision, configuration and split.
        questions: whether its rows are questions with options.
    """

    name: str
    template: str
    hash: str
    questions: bool
    _reader: Reader
    _layout: "_Fields | _Options"

    def read(self, limit: int | None = None) -> Examples:
        """Read its first rows, or all of them.

        Raises:
            DataError: the data break off.
        """
        examples, skipped, rows = list[Example](), Counter[str](), 0
        for record in self._reader.records(self._layout.columns, 0, limit):
            given = self._layout.examples(rows, record)
            rows += 1
            if isinstance(given, str):
                skipped[given] += 1
            else:
                examples += given
        return Examples(tuple(examples), rows, dict(sorted(skipped.items())))


@dataclass(frozen=True)
class _Fields:
    """A text and a label, each from its own fields."""

    text: Template
    label: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.text.columns, self.label, self.label.split(".")[0])

    @property
    def template(self) -> str:
        return f"{self.text.pattern} -> {{{self.label}}}"

    def examples(self, number: int, record: Mapping[str, object]) -> list[Example] | str:
        row, label = self.text.row(number, record), value_of(record, self.label)
        if row.text is None:
            return row.reason or NO_LABEL
        if not isinstance(label, str | int | bool) or not str(label).strip():
            return NO_LABEL
        return [Example(number, row.text, str(int(label) if isinstance(label, bool) else label).strip())]


@dataclass(frozen=True)
class _Options:
    """A question: its options lettered in one text, or one text for each."""

    form: QuestionForm
    pair: bool

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.form.fields, *self.form.also)

    @property
    def template(self) -> str:
        how = "and one option -> right or wrong" if self.pair else "and lettered options -> index of the right one"
        return f"question ({', '.join(self.form.fields)}) {how}"

    def examples(self, number: int, record: Mapping[str, object]) -> list[Example] | str:
        question = self.form.question(record)
        if question is None:
            return NO_QUESTION
        count = len(question.options)
        if not self.pair:
            return [Example(number, question.lettered, str(question.answer), count)]
        return [
            Example(number, text, RIGHT if place == question.answer else WRONG, count)
            for place, text in enumerate(question.joined)
        ]


def open_labelled(
    data: Any,
    *,
    text_field: str | None = None,
    label_field: str | None = None,
    pair: bool = False,
    split: str | None = None,
) -> LabelledData:
    """Open labelled data and check on the first row that they can be read.

    Args:
        data: a short name, a .jsonl, .parquet or .tsv file, or ``organisation/name@revision:config:split``; or a frame
            of polars or pandas, a ``datasets.Dataset``, a list of records.
        text_field: as for prompts; None takes text, sentence, content, two sentences or a question, and of a .tsv
            without a header the first column.
        label_field: the field of the class; None takes ``label``, and of a .tsv without a header the last column. Data
            of questions with options need neither.
        pair: read questions with one option at a time.
        split: of a short name; None for its training split.

    Raises:
        DataError: nothing of that name, not readable, empty, without a label, or without options to pair.

    Example:
        >>> open_labelled("dev.tsv").read().examples[0]  # doctest: +SKIP
        Example(row=0, text='a charming film', label='1', options=0)
    """
    known = SHORT_NAMES.get(data) if isinstance(data, str) else None
    name = data if split is None else f"{data}, {split}"
    if not isinstance(data, str):
        reader, name = in_memory(data), MEMORY
    elif known is not None:
        reader = HubRows(known.hub_id, None, known.configs, None, split or known.train).pinned()
        text, label = known.fields or (None, None)
        text_field, label_field = text_field or text, label_field or label
    elif (path := data_file(data)) is not None:
        reader, name = _file(path, text_field, label_field), path.name
    elif "/" in data:
        reader = parse_hub_name(data, None).pinned()
    else:
        raise DataError(
            f"--data {data}: expected a file, organisation/name on the hub, or one of {', '.join(SHORT_NAMES)}; "
            "got neither."
        )

    def choose(fields: tuple[str, ...]) -> "_Fields | _Options":
        return _layout(name, fields, reader, text_field, label_field, pair=pair)

    with told_to_wait(name):
        layout = first_found(name, reader, choose)
        hashed = hash_of(reader.only(layout.columns).identity())
    return LabelledData(name, layout.template, hashed, isinstance(layout, _Options), reader, layout)


def splits_on_hub(data: Any) -> dict[str, str] | None:
    """The hub splits that stand for train, validation and test of a short name; None where there is no such name."""
    known = SHORT_NAMES.get(data) if isinstance(data, str) else None
    if known is None:
        return None
    named = {"train": known.train, "validation": known.validation, "test": known.test}
    return {name: split for name, split in named.items() if split is not None}


def split_in_three(examples: Sequence[Example], seed: int) -> dict[str, tuple[Example, ...]]:
    """Share out the rows of one data set: 80% train, 10% validation, 10% test, drawn with a seed.

    Args:
        examples: those of one row stay together.
        seed: of the draw.

    Raises:
        DataError: there are fewer than ten rows.
    """
    rows = np.array(sorted({example.row for example in examples}))
    if len(rows) < 10:
        raise DataError(f"expected 10 rows or more to share out into train and test; got {len(rows)}. Give --test.")
    drawn = np.random.default_rng(seed).permutation(rows)
    ends = np.round(np.cumsum(list(SHARES.values())) * len(rows)).astype(int)
    shares = {name: set(part.tolist()) for name, part in zip(SHARES, np.split(drawn, ends[:-1]), strict=True)}
    return {name: tuple(example for example in examples if example.row in share) for name, share in shares.items()}


def _layout(
    name: str, fields: tuple[str, ...], reader: Reader, text_field: str | None, label_field: str | None, *, pair: bool
) -> _Fields | _Options:
    form = form_of(fields) if text_field is None and label_field is None else None
    if form is not None:
        return _Options(form, pair)
    if pair:
        raise DataError(f"--pair: expected questions with options in {name}; got the fields {listed(fields)}.")
    text, label = _columns(reader, text_field, label_field)
    usual = next((wanted for wanted in TEXTS if set(wanted) <= set(fields)), None) if text is None else None
    template = Template(usual) if usual else choose_template(name, fields, text)
    return _Fields(template, _label(name, fields, LABEL if label is None else label))


def _columns(reader: Reader, text_field: str | None, label_field: str | None) -> tuple[str | None, str | None]:
    """The names behind column numbers of a .tsv; without a header its first and last columns."""
    if not isinstance(reader, Tsv):
        return text_field, label_field
    if label_field is None and reader.header is None:
        label_field = str(len(reader.names) - 1)
    label = None if label_field is None else reader.asked(label_field)
    return reader.asked(text_field), label


def _label(name: str, fields: tuple[str, ...], wanted: str) -> str:
    if wanted in fields or wanted.split(".")[0] in fields:
        return wanted
    hint = nearest(wanted, fields).replace("--text-field", "--label-field")
    raise DataError(f"{name}: expected a class in the field '{wanted}'; got the fields {listed(fields)}.{hint}")


def _file(path: Path, text_field: str | None, label_field: str | None) -> Reader:
    file = local_file(path, f"{text_field or 'sentence'}+{label_field or LABEL}")
    if isinstance(file, Txt):
        raise DataError(
            f"{file.path}: expected labelled rows (.jsonl, .parquet, .tsv); got plain text, which has no labels."
        )
    return file
