"""What an experiment can be asked, checked before anything is loaded; each takes as much of it as it needs.

On the command line these are options of the same names, said here for both; below is how a person types what is
something else in Python.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeGuard, runtime_checkable

from cyclopts import Parameter, Token
from pydantic import Field, SkipValidation

from thalweg.errors import UsageError
from thalweg.options import MASSIVE_RATIO, TAU, LoadOptions, Switch
from thalweg.paths import SUFFIXES, data_file, directory_here, lens_directory
from thalweg.ranges import ranges
from thalweg.validated import Says, validated

BUNDLED_MODEL, BUNDLED_DATA = "reference", "bundled"
"""What comes with thalweg; by their names, since the room that has them imports torch."""


@runtime_checkable
class LoadedModel(Protocol):
    """A transformers model in memory, known without torch."""

    @property
    def config(self) -> Any:
        """Its configuration."""

    def get_input_embeddings(self) -> Any:
        """Its embedding."""


@runtime_checkable
class Frame(Protocol):
    """A frame of polars or pandas."""

    @property
    def columns(self) -> Any:
        """The names of its columns."""


@runtime_checkable
class Dataset(Protocol):
    """A ``datasets.Dataset``."""

    @property
    def column_names(self) -> Any:
        """The names of its columns."""


Names = str | Path | Sequence[str | Path]
Model = str | Path | LoadedModel
Models = Model | Sequence[Model]
Rows = Frame | Dataset | Sequence[Any]
"""Rows in memory, with fields; what a list holds is seen when it is read."""
Data = str | Path | Sequence[str | Path] | Rows | Mapping[str, Rows]
"""A name; a tuple of them; or what is in memory, a list of texts or rows, or several of these by their names."""
IN_PYTHON = Parameter(parse=False)
"""What the command line does not have."""
COUNT = Field(ge=1, le=sys.maxsize)
OF_COUNT = f"must be at least 1 and at most {sys.maxsize}; got {{got}}."


def is_name(model: object) -> TypeGuard[str | Path]:
    """Whether it names a model, or several, and is none that is loaded."""
    return isinstance(model, str | Path)


@validated
class PassOptions(LoadOptions):
    """How a model is loaded, and how prompts go through it.

    Attributes:
        tokenizer: that of a model which is loaded already.
        bos: beginning-of-sequence token: "auto" (as the tokenizer does), "always" or "never".
        batch_tokens: padded tokens of a forward pass; by default as the device can take. Changes no number.
        batch_size: prompts of a forward pass at most.
        shard_rows: rows written together.
        progress: show a bar on a terminal and in a notebook, and a line a minute in a log.
    """

    tokenizer: Annotated[SkipValidation[Any], IN_PYTHON] = None
    bos: SkipValidation[Literal["auto", "always", "never"]] = "auto"
    batch_tokens: Annotated[int | None, COUNT, Says(f"--batch-tokens {OF_COUNT}")] = None
    batch_size: Annotated[int | None, COUNT, Says(f"--batch-size {OF_COUNT}")] = None
    shard_rows: Annotated[int, IN_PYTHON, COUNT, Says(f"--shard-rows {OF_COUNT}")] = 64
    progress: Annotated[bool, IN_PYTHON] = True

    @property
    def loading(self) -> LoadOptions:
        """The part that says how a model is loaded."""
        return LoadOptions(**{field.name: getattr(self, field.name) for field in fields(LoadOptions)})


@validated
class TextOptions(PassOptions):
    """The same, and how long a text may be.

    Attributes:
        max_length: longest prompt in tokens; longer ones are cut.
    """

    max_length: Annotated[int, COUNT, Says(f"--max-length {OF_COUNT}")] = 1024


@validated
class RowOptions(PassOptions):
    """How prompts go through a model, and which rows of the data they are.

    Attributes:
        text_field: field of the data that holds the text; several joined by +.
        limit: first rows of the data to measure; by default all.
    """

    text_field: str | None = None
    limit: Annotated[int | None, COUNT, Says(f"--limit {OF_COUNT}")] = None


@validated
class ExampleOptions(TextOptions, RowOptions):
    """Both."""


@validated
class ThresholdOptions(RowOptions):
    """Which rows of the data are measured, and against which thresholds.

    Attributes:
        whole_file: make one prompt of a .txt file, instead of one a line.
        chat: rows are conversations, a list of messages in the field messages or in ``text_field``; the model's chat
            template makes prompts of them.
        tau: sink score from which a head is a sink.
        sink_position: position of the sink token, 0 by default; given, it also takes the place of the rows that stand
            out, at which a model is changed or attributed.
        massive_ratio: row norm over median row norm from which a row is massive.
    """

    whole_file: Switch = False
    chat: Switch = False
    tau: Annotated[
        float, Field(gt=0, le=1), Says("--tau is a share of attention, above 0 and at most 1; got {got}.")
    ] = TAU
    sink_position: Annotated[int | None, Field(ge=0), Says("--sink-position counts from 0; got {got}.")] = None
    massive_ratio: Annotated[
        float,
        Field(gt=1, allow_inf_nan=False),
        Says("--massive-ratio is over the median row, above 1 and finite; got {got}."),
    ] = MASSIVE_RATIO


@validated
class PromptOptions(ExampleOptions, ThresholdOptions):
    """Which prompts are measured, cut to what length, against which thresholds.

    Attributes:
        sample: measure a random sample of so many rows, drawn from the first ``limit``, or from all; part of a run's
            identity.
        seed: of the rows that ``sample`` draws; written into the run.
    """

    sample: Annotated[int | None, COUNT, Says(f"--sample {OF_COUNT}")] = None
    seed: int = 0


@validated
class SurveyOptions(PromptOptions):
    """All of it, and what only a survey is asked; every other experiment takes them too.

    Attributes:
        variants: also measure what other authors publish as the entropy.
        keep_text: keep the prompts' text in the run.
        engine: what runs the shards: "local".
    """

    variants: Switch = False
    keep_text: Switch = False
    engine: Annotated[Literal["local"], Says("--engine {got} is unknown; expected local.")] = "local"


def survey_options(options: Any) -> SurveyOptions:
    """Give options, or None for the defaults, as those of a survey: what an experiment is not asked has its default."""
    if options is None or isinstance(options, SurveyOptions):
        return options or SurveyOptions()
    if not isinstance(options, PassOptions):
        raise UsageError(f"options must be thalweg.SurveyOptions(limit=..., ...); got {type(options).__name__}.")
    return SurveyOptions(**vars(options))


def _pieces(_: Any, tokens: Sequence[Token]) -> list[str]:
    return [piece.strip() for token in tokens for piece in token.value.split(",")]


def _named(_: Any, tokens: Sequence[Token]) -> list[str]:
    return [piece for piece in _pieces(_, tokens) if piece]


def _codes(_: Any, tokens: Sequence[Token]) -> list[str]:
    codes = _named(_, tokens)
    return [] if codes == ["all"] else codes


PIECES = Parameter(n_tokens=-1, converter=_pieces)
"""Several by commas, or repeated; what is empty is refused later."""
TASKS = Parameter(n_tokens=-1, converter=_named, name=("--task", "--tasks"))
"""The same without what is empty."""
CODES = Parameter(n_tokens=-1, converter=_codes)
"""The same, where the word all stands for none in particular."""


def _lead_somewhere(look: Callable[[str], object]) -> Callable[[Any, Any], None]:
    """Paths among what is given lead somewhere: told before torch is imported."""

    def there(_: Any, given: Any) -> None:
        for name in [given] if isinstance(given, str | Path) else given or ():
            look(str(name))

    return there


def _data(name: str) -> None:
    """A name alone may be a short one, and a folder here beside."""
    if "/" in name or name.lower().endswith(SUFFIXES):
        data_file(name)


DATA = Parameter(validator=_lead_somewhere(_data))
LENS = Parameter(validator=_lead_somewhere(lens_directory))
DIRECTORY = Parameter(validator=_lead_somewhere(partial(directory_here, "--checkpoint-dir")))
FLATTENED = Parameter(name="*")
"""An object by its fields."""


def switched_off_by(option: str) -> Parameter:
    """Give what is on the name of the option that turns it off, its only one on the command line."""
    return Parameter(name="", negative=option, show_default=False)


PIECE = re.compile(r"(\d+)(?:-(\d+))?")


def index_list(option: str, given: str | Sequence[int], last: int) -> tuple[int, ...]:
    """Read blocks or states as a person writes them, or their numbers: every one once, ascending, at most ``last``.

    Example:
        >>> index_list("--blocks", "0,5-7", last=7)
        (0, 5, 6, 7)
    """
    what = option.removeprefix("--")
    pairs = _pairs(option, given) if isinstance(given, str) else [(number, number) for number in given]
    if not pairs:
        raise UsageError(f"{option} names nothing; expected numbers and ranges such as 0,5-7.")
    for first, end in pairs:
        if isinstance(first, bool) or not isinstance(first, int):
            raise UsageError(f"{option} takes whole numbers; got {first!r}.")
        if first > end:
            raise UsageError(f"{option} {first}-{end} runs backwards; write {end}-{first}.")
        if first < 0 or end > last:
            wrong = first if not 0 <= first <= last else end
            raise UsageError(f"{option} {wrong} is out of range; this model has {what} 0 to {last}.")
    return tuple(sorted({number for first, end in pairs for number in range(first, end + 1)}))


def index_text(numbers: Sequence[int]) -> str:
    """Write ascending numbers as `index_list` reads them.

    Example:
        >>> index_text((0, 5, 6, 7))
        '0,5-7'
    """
    return ranges(numbers, ",")


def _pairs(option: str, text: str) -> list[tuple[int, int]]:
    pairs = list[tuple[int, int]]()
    for piece in text.split(",") if text.strip() else []:
        written = PIECE.fullmatch(piece.strip())
        if written is None or not piece.isascii():
            raise UsageError(f"{option} takes numbers and ranges such as 0,5-7; got {piece.strip()!r} in {text!r}.")
        first, end = written.groups()
        pairs.append((int(first), int(end or first)))
    return pairs
