"""The data sets of the paper under short names: where they are, which fields make a prompt, what stands in the way.

``list_data`` and ``list_labelled_data``, for probes, are what ``thalweg list data`` prints. The facts come from public
documentation, issues and code, read in 2026, not from loading the data sets; what could not be confirmed is said in the
note.
"""

from dataclasses import dataclass

BUNDLED = "bundled"


@dataclass(frozen=True)
class HubData:
    """One data set with a short name.

    Attributes:
        name: What a person types after ``--data``.
        hub_id: ``organisation/name`` on the hub, or None for the bundled prompts.
        configs: Configurations, read one after the other as one data set; empty means the default.
        data_dir: The folder of the repository that is read, or None.
        split: The split.
        fields: The fields of a prompt, joined by a newline.
        gated: Whether terms must be accepted and a token given.
        note: What the paper did with it, and what to know before using it.
    """

    name: str
    hub_id: str | None
    configs: tuple[str, ...]
    data_dir: str | None
    split: str
    fields: tuple[str, ...]
    gated: bool
    note: str


@dataclass(frozen=True)
class LabelledHubData:
    """One labelled data set: the splits that stand for three, if there are so many; its fields of text and label.

    Questions with options have no such fields: their form tells them.
    """

    name: str
    hub_id: str
    configs: tuple[str, ...]
    train: str
    validation: str | None
    test: str
    fields: tuple[str, str] | None
    note: str


# Tables, two or three lines to a data set.
# fmt: off
_SUBJECTS = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra",
             "precalculus")
_BUNDLED_DATA = HubData(
    BUNDLED, None, (), None, "train", ("text",), False,
    "64 word problems and paragraphs written for thalweg; the default, needs no network")
HUB_DATA: tuple[HubData, ...] = (
    HubData("gsm8k", "openai/gsm8k", ("main",), None, "train", ("question", "answer"), False,
            "the paper's main data: 7,473 training problems, question and answer joined (Fig. 1)"),
    HubData("math", "EleutherAI/hendrycks_math", _SUBJECTS, None, "train", ("problem", "solution"), False,
            "MATH (Fig. 11), its seven subjects one after the other, as hendrycks/competition_math was taken down in "
            "2025"),
    HubData("fineweb", "HuggingFaceFW/fineweb", ("sample-10BT",), None, "train", ("text",), False,
            "web prose (Fig. 10), from the 10-billion-token sample"),
    HubData("fineweb-edu", "HuggingFaceFW/fineweb-edu", ("sample-10BT",), None, "train", ("text",), False,
            "educational web prose (Fig. 5; the paper read 20,000 prompts of up to 4,096 tokens)"),
    HubData("the-stack", "bigcode/the-stack", (), "data/python", "train", ("content",), True,
            "code (Fig. 9); the paper does not say which languages, Python here; another one: the-stack:data/rust"),
    HubData("redpajama", "ZengXiangyu/RedPajama-Data-1T-Sample", (), None, "train", ("text",), False,
            "a mirror (not verified by thalweg) of togethercomputer/RedPajama-Data-1T-Sample (Fig. 3), "
            "which is a loading script that datasets >= 4 refuses and was reported gone in November 2025"),
    HubData("wikitext2", "Salesforce/wikitext", ("wikitext-2-raw-v1",), None, "test", ("text",), False,
            "WikiText-2 (Fig. 8), a paragraph or heading a row; empty rows are skipped and counted"),
)
LABELLED_DATA: tuple[LabelledHubData, ...] = (
    LabelledHubData("sst2", "stanfordnlp/sst2", (), "train", None, "validation", ("sentence", "label"),
                    "SST-2 (Fig. 31), two classes; its test split has no labels, so its validation split is the test"),
    LabelledHubData("arc-easy", "allenai/ai2_arc", ("ARC-Easy",), "train", "validation", "test", None,
                    "ARC Easy (Figs. 8 and 31), questions with three to five options"),
    LabelledHubData("arc-challenge", "allenai/ai2_arc", ("ARC-Challenge",), "train", "validation", "test", None,
                    "ARC Challenge (Fig. 31), questions with three to five options"),
    LabelledHubData("hellaswag", "Rowan/hellaswag", (), "train", None, "validation", None,
                    "HellaSwag (Fig. 31), four endings; its test split has no labels, so its validation split is the "
                    "test"),
    LabelledHubData("winogrande", "allenai/winogrande", ("winogrande_xl",), "train", None, "validation", None,
                    "WinoGrande (Fig. 31), two options; its test split has no labels, so its validation split is the "
                    "test"),
)
# fmt: on


def list_labelled_data() -> tuple[LabelledHubData, ...]:
    """Every short name of labelled data, for probes."""
    return LABELLED_DATA


def list_data() -> tuple[HubData, ...]:
    """Every short name: the bundled prompts first, then the hub's.

    Returns:
        The first rows that ``thalweg list data`` prints.

    Example:
        >>> [data.name for data in list_data()][:2]
        ['bundled', 'gsm8k']
    """
    return (_BUNDLED_DATA, *HUB_DATA)
