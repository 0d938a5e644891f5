"""What probes are trained and tested on: splits, and their labels as classes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.errors import DataError
from thalweg.prompts import Example, Examples, LabelledData, open_labelled, split_in_three, splits_on_hub

SHARED_OUT = "a share of"


@dataclass(frozen=True)
class Split:
    """One split.

    Attributes:
        name: train, validation or test.
        source: where it comes from, in words.
        examples: texts with a class each.
        read: what else its rows gave.
    """

    name: str
    source: str
    examples: tuple[Example, ...]
    read: Examples


@dataclass(frozen=True)
class ProbeData:
    """All splits of one data set.

    Attributes:
        name: what the tables call the data set.
        splits: train first.
        labels: the classes, in their order.
        questions: whether examples are questions with options.
        pair: whether a question is read with one option at a time.
        identity: what the splits depend on, for the experiment's settings.
    """

    name: str
    splits: tuple[Split, ...]
    labels: tuple[str, ...]
    questions: bool
    pair: bool
    identity: Mapping[str, Any]

    @property
    def texts(self) -> list[str]:
        """Every text, split after split."""
        return [example.text for split in self.splits for example in split.examples]

    def classes(self, examples: Sequence[Example]) -> np.ndarray:
        """The class of each example, by its place in ``labels``."""
        places = {label: place for place, label in enumerate(self.labels)}
        return np.array([places[example.label] for example in examples], dtype=np.int64)


def probe_data(
    data: str,
    *,
    validation: str | None = None,
    test: str | None = None,
    text_field: str | None = None,
    label_field: str | None = None,
    pair: bool = False,
    limit: int | None = None,
    seed: int = 123,
) -> ProbeData:
    """Read the splits of a labelled data set.

    Args:
        data: the training data, or a data set on the hub that has its splits by a short name.
        validation: the validation data.
        test: the test data; without it ``data`` is shared out into 80% train, 10% validation and 10% test.
        text_field: where the text is.
        label_field: where the class is.
        pair: read questions with one option at a time.
        limit: first rows of each.
        seed: of the shares.

    Raises:
        DataError: a split cannot be read, has no example, has one class alone or one that training does not know.
    """
    opened = _opened(data, validation, test, text_field=text_field, label_field=label_field, pair=pair)
    read = {name: labelled.read(limit) for name, labelled in opened.items()}
    for name, labelled in opened.items():
        _require_examples(labelled, read[name])
    shared_out = "test" not in opened
    if shared_out:
        parts = split_in_three(read["train"].examples, seed)
        splits = [Split(name, f"{SHARED_OUT} {data}", part, read["train"]) for name, part in parts.items()]
    else:
        splits = [Split(name, opened[name].name, read[name].examples, read[name]) for name in opened]
    labels = _labels(splits, questions=opened["train"].questions, pair=pair)
    identity = {name: _identity(labelled) for name, labelled in opened.items()}
    return ProbeData(
        name=data if splits_on_hub(data) else opened["train"].name,
        splits=tuple(splits),
        labels=labels,
        questions=opened["train"].questions,
        pair=pair,
        identity={**identity, "shares": "80/10/10" if shared_out else None, "limit": limit, "pair": pair},
    )


def _identity(data: LabelledData) -> dict[str, Any]:
    return {"name": data.name, "hash": data.hash, "template": data.template}


def _opened(data: str, validation: str | None, test: str | None, **options: Any) -> dict[str, LabelledData]:
    """The data of each split that is asked for, or that the hub has, in the order train, validation, test."""
    hub = splits_on_hub(data) if test is None and validation is None else None
    if hub is not None:
        return {name: open_labelled(data, split=split, **options) for name, split in hub.items()}
    if validation is not None and test is None:
        raise DataError("--validation: expected --test beside it; got none. Give both, or neither to share out --data.")
    asked = {"train": data, "validation": validation, "test": test}
    return {name: open_labelled(source, **options) for name, source in asked.items() if source is not None}


def _require_examples(data: LabelledData, read: Examples) -> None:
    if not read.examples:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in read.skipped.items()) or "no rows"
        raise DataError(
            f"{data.name}: expected rows with a text and a class ({data.template}); got none ({reasons}). "
            "Change --text-field, --label-field, --limit or --data."
        )


def _labels(splits: Sequence[Split], *, questions: bool, pair: bool) -> tuple[str, ...]:
    """The classes that training knows; of lettered options as many as the longest question has.

    Raises:
        DataError: there is one alone, or one in another split that training does not know.
    """
    train = Counter(example.label for example in splits[0].examples)
    if len(train) < 2:
        only = next(iter(train))
        raise DataError(
            f"{splits[0].source}: expected two classes or more to train on; all {train[only]} examples are of class "
            f"'{only}'. Check --label-field, or raise --limit if the rows are sorted by class."
        )
    if questions and not pair:
        most = max(example.options for split in splits for example in split.examples)
        return tuple(str(place) for place in range(most))
    if max(train.values()) == 1 and len(train) > 2:
        raise DataError(
            f"{splits[0].source}: expected classes; every one of {len(train)} labels occurs once. Check --label-field."
        )
    for split in splits[1:]:
        if unknown := sorted({example.label for example in split.examples} - set(train)):
            known = ", ".join(sorted(train, key=_numbers_first)[:8])
            raise DataError(
                f"{split.source}: expected the classes that training knows ({known}); the {split.name} split has "
                f"'{unknown[0]}'. Check that the two belong together, or leave those rows out."
            )
    return tuple(sorted(train, key=_numbers_first))


def _numbers_first(label: str) -> tuple[int, int, str]:
    return (0, int(label), label) if label.lstrip("-").isdecimal() else (1, 0, label)
