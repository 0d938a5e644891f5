"""What a harness wants answered, and what it says of the answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thalweg.errors import UsageError

Answers = Sequence[tuple[float, bool]]
"""For each request the log-likelihood of its targets, in nats, and whether each of them is the most probable token."""

CACHING = ("true", "refresh", "delete")


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


@dataclass(frozen=True)
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

    num_fewshot: int | None = None
    limit: int | float | None = None
    include_path: tuple[str, ...] = ()
    max_length: int | None = None
    bos: str = "auto"
    cache_requests: str | None = None
    bars: bool = True

    def __post_init__(self) -> None:
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise UsageError(f"--num-fewshot must be at least 0; got {self.num_fewshot}.")
        if self.limit is not None and not (0 < self.limit < 1 or (self.limit >= 1 and self.limit == int(self.limit))):
            raise UsageError(f"--limit takes a number of questions, or a share below 1; got {self.limit:g}.")
        if self.max_length is not None and self.max_length < 2:
            raise UsageError(f"--max-length must be at least 2; got {self.max_length}.")
        if self.cache_requests not in (None, *CACHING):
            raise UsageError(f"--cache-requests is {', '.join(CACHING)}; got {self.cache_requests}.")
        for path in self.include_path:
            if not Path(path).is_dir():
                raise UsageError(f"--include-path {path}: expected a directory with YAML files of tasks; got none.")
