"""What probes are trained and tested on: splits, and their labels as classes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.errors import DataError
from thalweg.prompts import Example, Examples, LabelledData, open_labelled, split_in_three, splits_on_hub

SHARED_OUT = "a share of"


@dataclass(frozen=True)
class Split:
    """One split: its name, where it comes from in words, texts with a class each, and what else its rows gave."""

    name: str
    source: str
    examples: tuple[Example, ...]
    read: Examples


@dataclass(frozen=True)
class ProbeData:
    """All splits of one data set, train first, with the classes in their order and what the splits depend on."""

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
    data: Any,
    *,
    validation: Any,
    test: Any,
    text_field: str | None,
    label_field: str | None,
    pair: bool,
    limit: int | None,
    seed: int,
) -> ProbeData:
    """Read the splits of a labelled data set, given as :func:`thalweg.probe` takes it.

    Raises:
        DataError: a split cannot be read, has no example, has one class alone or one that training does not know.
    """
    opened = _opened(data, validation, test, text_field=text_field, label_field=label_field, pair=pair)
    read = {name: labelled.read(limit) for name, labelled in opened.items()}
    for name, labelled in opened.items():
        if not read[name].examples:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in read[name].skipped.items()) or "no rows"
            raise DataError(
                f"{labelled.name}: expected rows with a text and a class ({labelled.template}); got none ({reasons}). "
                "Change --text-field, --label-field, --limit or --data."
            )
    shared_out, questions = "test" not in opened, opened["train"].questions
    if shared_out:
        parts = split_in_three(read["train"].examples, seed)
        whole = data if isinstance(data, str) else opened["train"].name
        splits = tuple(Split(name, f"{SHARED_OUT} {whole}", part, read["train"]) for name, part in parts.items())
    else:
        splits = tuple(Split(name, opened[name].name, read[name].examples, read[name]) for name in opened)
    identity = {
        **{name: {key: getattr(each, key) for key in ("name", "hash", "template")} for name, each in opened.items()},
        "shares": "80/10/10" if shared_out else None,
        "limit": limit,
        "pair": pair,
    }
    name = data if splits_on_hub(data) else opened["train"].name
    return ProbeData(name, splits, _labels(splits, questions=questions, pair=pair), questions, pair, identity)


def _opened(data: Any, validation: Any, test: Any, **options: Any) -> dict[str, LabelledData]:
    """The data of each split that is asked for, or that the hub has, in the order train, validation, test."""
    hub = splits_on_hub(data) if test is None and validation is None else None
    if hub is not None:
        return {name: open_labelled(data, split=split, **options) for name, split in hub.items()}
    if validation is not None and test is None:
        raise DataError("--validation: expected --test beside it; got none. Give both, or neither to share out --data.")
    asked = {"train": data, "validation": validation, "test": test}
    given = {name: str(each) if isinstance(each, Path) else each for name, each in asked.items() if each is not None}
    return {name: open_labelled(each, **options) for name, each in given.items()}


def _labels(splits: Sequence[Split], *, questions: bool, pair: bool) -> tuple[str, ...]:
    """The classes that training knows; of lettered options as many as the longest question has."""
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
