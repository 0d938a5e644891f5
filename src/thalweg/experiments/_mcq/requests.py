"""What a harness wants answered, and what it says of the answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from thalweg.validated import Says, meets, validated

Answers = Sequence[tuple[float, bool]]
"""For each request the log-likelihood of its targets, in nats, and whether each of them is the most probable token."""

CACHING = ("true", "refresh", "delete")
Directory = Annotated[str, meets(lambda path: Path(path).is_dir())]


@dataclass(frozen=True)
class Request:
    """How probable is this continuation?

    Attributes:
        tokens: what enters the model: the context and all of the continuation but its last token.
        targets: the continuation, predicted by the last rows.
    """

    tokens: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class TaskScore:
    """One number of one task.

    Attributes:
        task: its name, or that of a group.
        group: whether it is the harness's own average over a group of tasks.
        metric: such as ``acc`` or ``acc_norm``; with a filter as ``acc,filter``.
        value: as the harness computes it; NaN with a reason where an answer is NaN.
        stderr: its standard error, NaN where the harness gives none.
        n: questions.
        chance: expected of answers at random, mean of 1 / number of options; NaN where the metric is no accuracy, or
            where not just one option is right.
        shots: solved examples before each question.
        version: of the task, as the harness has it.
        truncated: requests whose context was cut at the left.
        reason: why there is no value.
    """

    task: str
    group: bool
    metric: str
    value: float
    stderr: float
    n: int
    chance: float
    shots: int | None
    version: str
    truncated: int
    reason: str | None = None


def _is_number_or_share(limit: int | float | None) -> bool:
    return limit is None or 0 < limit < 1 or (limit >= 1 and limit == int(limit))


@validated
class HarnessOptions:
    """What a harness is asked, in its own terms.

    Attributes:
        num_fewshot: solved examples before each question; None for what the task says.
        limit: first questions of each task; below 1 a share of them; None for all.
        include_path: directories with tasks of one's own, which go before those of the harness.
        max_length: longest request in tokens, cut at the left; None for the model's own.
        bos: "auto" (as the tokenizer does), "always" or "never".
        cache_requests: the harness's own cache of prompts that are built: "true", "refresh" or "delete".
        bars: show the harness's own progress.
    """

    num_fewshot: Annotated[int | None, Field(ge=0), Says("--num-fewshot must be at least 0; got {got}.")] = None
    limit: Annotated[
        int | float | None,
        meets(_is_number_or_share),
        Says("--limit takes a number of questions, or a share below 1; got {got}."),
    ] = None
    include_path: Annotated[
        tuple[Directory, ...],
        Says("--include-path {got}: expected a directory with YAML files of tasks; got none."),
    ] = ()
    max_length: Annotated[int | None, Field(ge=2), Says("--max-length must be at least 2; got {got}.")] = None
    bos: str = "auto"
    cache_requests: Annotated[
        str | None,
        meets((None, *CACHING).__contains__),
        Says(f"--cache-requests is {', '.join(CACHING)}; got {{got}}."),
    ] = None
    bars: bool = True
