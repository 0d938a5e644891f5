"""Labelled data sets of the paper under short names: where they are, and which of their splits have labels.

The facts come from public documentation, read in 2026, not from loading the data sets.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class LabelledHubData:
    """One labelled data set with a short name.

    Attributes:
        name: what a person types after ``--data``.
        hub_id: ``organisation/name`` on the hub.
        configs: its configuration; empty means the default.
        train, validation, test: the splits that stand for these three; None where there is none.
        fields: text and label; None for questions with options, whose form tells them.
        note: what to know before using it.
    """

    name: str
    hub_id: str
    configs: tuple[str, ...]
    train: str
    validation: str | None
    test: str
    fields: tuple[str, str] | None
    note: str


LABELLED_DATA: tuple[LabelledHubData, ...] = (
    LabelledHubData(
        "sst2",
        "stanfordnlp/sst2",
        (),
        "train",
        None,
        "validation",
        ("sentence", "label"),
        "SST-2 (Fig. 31), two classes; its test split has no labels, so its validation split is the test",
    ),
    LabelledHubData(
        "arc-easy",
        "allenai/ai2_arc",
        ("ARC-Easy",),
        "train",
        "validation",
        "test",
        None,
        "ARC Easy (Figs. 8 and 31), questions with three to five options",
    ),
    LabelledHubData(
        "arc-challenge",
        "allenai/ai2_arc",
        ("ARC-Challenge",),
        "train",
        "validation",
        "test",
        None,
        "ARC Challenge (Fig. 31), questions with three to five options",
    ),
    LabelledHubData(
        "hellaswag",
        "Rowan/hellaswag",
        (),
        "train",
        None,
        "validation",
        None,
        "HellaSwag (Fig. 31), four endings; its test split has no labels, so its validation split is the test",
    ),
    LabelledHubData(
        "winogrande",
        "allenai/winogrande",
        ("winogrande_xl",),
        "train",
        None,
        "validation",
        None,
        "WinoGrande (Fig. 31), two options; its test split has no labels, so its validation split is the test",
    ),
)
