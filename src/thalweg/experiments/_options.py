"""What an experiment can be asked, checked before anything is loaded; each takes as much of it as it needs.

On the command line these are options of the same names, said here for both.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from thalweg.errors import UsageError
from thalweg.options import MASSIVE_RATIO, TAU, LoadOptions, Switch

BUNDLED_MODEL, BUNDLED_DATA = "reference", "bundled"
"""What comes with thalweg; by their names, since the room that has them imports torch."""
ENGINES = ("local",)
COUNTS = ("limit", "max_length", "batch_tokens", "batch_size", "shard_rows")
Names = str | Path | Sequence[str | Path]
IN_PYTHON = Parameter(parse=False)
"""What the command line does not have."""


@dataclass(frozen=True)
class PassOptions(LoadOptions):
    """How a model is loaded, and how prompts go through it.

    Attributes:
        bos: beginning-of-sequence token: "auto" (as the tokenizer does), "always" or "never".
        batch_tokens: padded tokens of a forward pass; by default as the device can take. Changes no number.
        batch_size: prompts of a forward pass at most.
        shard_rows: rows written together.
        progress: show a bar on a terminal.
    """

    bos: Literal["auto", "always", "never"] = "auto"
    batch_tokens: int | None = None
    batch_size: int | None = None
    shard_rows: Annotated[int, IN_PYTHON] = 64
    progress: Annotated[bool, IN_PYTHON] = True

    def __post_init__(self) -> None:
        for name in COUNTS:
            value = getattr(self, name, None)
            if value is not None and not (isinstance(value, int) and 1 <= value <= sys.maxsize):
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} must be at least 1 and at most {sys.maxsize}; got {value!r}.")

    @property
    def loading(self) -> LoadOptions:
        """The part that says how a model is loaded."""
        return LoadOptions(**{field.name: getattr(self, field.name) for field in fields(LoadOptions)})


@dataclass(frozen=True)
class TextOptions(PassOptions):
    """The same, and how long a text may be.

    Attributes:
        max_length: longest prompt in tokens; longer ones are cut.
    """

    max_length: int = 1024


@dataclass(frozen=True)
class RowOptions(PassOptions):
    """How prompts go through a model, and which rows of the data they are.

    Attributes:
        text_field: field of the data that holds the text; several joined by +.
        limit: first rows of the data to measure; by default all.
    """

    text_field: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class ExampleOptions(TextOptions, RowOptions):
    """Both."""


@dataclass(frozen=True)
class ThresholdOptions(RowOptions):
    """Which rows of the data are measured, and against which thresholds.

    Attributes:
        whole_file: make one prompt of a .txt file, instead of one a line.
        tau: sink score from which a head is a sink.
        sink_position: position of the sink token.
        massive_ratio: row norm over median row norm from which a row is massive.
    """

    whole_file: Switch = False
    tau: float = TAU
    sink_position: int = 0
    massive_ratio: float = MASSIVE_RATIO

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sink_position < 0:
            raise UsageError(f"--sink-position counts from 0; got {self.sink_position}.")
        if not 0 < self.tau <= 1:
            raise UsageError(f"--tau is a share of attention, above 0 and at most 1; got {self.tau:g}.")
        if not 1 < self.massive_ratio < math.inf:
            raise UsageError(f"--massive-ratio is over the median row, above 1 and finite; got {self.massive_ratio:g}.")


@dataclass(frozen=True)
class PromptOptions(ExampleOptions, ThresholdOptions):
    """Which prompts are measured, cut to what length, against which thresholds."""


@dataclass(frozen=True)
class SurveyOptions(PromptOptions):
    """All of it, and what only a survey is asked; every other experiment takes them too.

    Attributes:
        variants: also measure what other authors publish as the entropy.
        keep_text: keep the prompts' text in the run.
        seed: written into the run; a survey draws nothing.
        engine: what runs the shards: "local".
    """

    variants: Switch = False
    keep_text: Switch = False
    seed: int = 0
    engine: Literal["local"] = "local"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.engine not in ENGINES:
            raise UsageError(f"--engine {self.engine} is unknown; expected {' or '.join(ENGINES)}.")


def survey_options(options: Any) -> SurveyOptions:
    """Give options as those of a survey: what an experiment is not asked has its default.

    Args:
        options: of an experiment; None for the defaults.

    Raises:
        UsageError: they are something else.
    """
    if options is None or isinstance(options, SurveyOptions):
        return options or SurveyOptions()
    if not isinstance(options, PassOptions):
        raise UsageError(f"options must be thalweg.SurveyOptions(limit=..., ...); got {type(options).__name__}.")
    return SurveyOptions(**vars(options))
