"""Run shards here, one after the other; a batch that does not fit into memory is halved.

A prompt that does not fit by itself, and what a device that fails or does not answer left unmeasured, is named with the
reason, and may be measured later: neither has to do with the prompt.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from thalweg import ranks
from thalweg.engines._progress import Progress
from thalweg.errors import NotMeasured
from thalweg.prompts import Prompt, Shard, Skipped, batches

Result = TypeVar("Result")
Measure = Callable[[Sequence[Prompt]], Result]

OUT_OF_MEMORY = "out of memory"
"""Why a prompt that did not fit is skipped."""
DEVICE_ERROR = "a device error"
TIME_OUT = "a time-out"
PASSING = (OUT_OF_MEMORY, DEVICE_ERROR, TIME_OUT)
"""Why a prompt was not measured, where that can pass."""
WORDS = {
    OUT_OF_MEMORY: ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate"),
    DEVICE_ERROR: (
        "cuda error",
        "hip error",
        "cudnn error",
        "cublas error",
        "acceleratorerror",
        "device-side assert",
        "nccl error",
        "by peer",
    ),
    TIME_OUT: ("timed out", "timeout"),
}
"""How the backends say it, each in its own way."""


@dataclass(frozen=True)
class BatchOptions:
    """How prompts share a forward pass; changes no number.

    Attributes:
        token_budget: padded tokens of a batch at most.
        batch_size: prompts of a batch at most; None for no limit.
        switch: padded length that no batch straddles, for rotary embeddings that change with it.
    """

    token_budget: int
    batch_size: int | None = None
    switch: int | None = None


def run_shards(
    shards: Iterable[Shard],
    *,
    measure: Measure[Result],
    finish: Callable[[Shard, list[Result]], None],
    options: BatchOptions,
    progress: Progress | None = None,
) -> None:
    """Measure every shard and hand it on when it is whole.

    Args:
        shards: rows already tokenized.
        measure: what one batch gives.
        finish: called once for each shard, in order, with the results of its batches; a prompt that was not measured
            has moved from ``prompts`` to ``skipped``.
        options: how prompts share a forward pass.
        progress: told of every batch and shard.

    Raises:
        NotMeasured: a device failed or did not answer; the shard was finished with what had been measured of it, and
            no other one was begun.
    """
    progress = progress or Progress()
    for shard in shards:
        results, failed, broken = list[Result](), list[Skipped](), None
        for batch in batches(
            shard.prompts,
            token_budget=options.token_budget,
            batch_size=options.batch_size,
            same_side_of=options.switch,
        ):
            broken = _run(batch, measure, results, failed, broken)
            progress.tokens(sum(len(prompt) for prompt in batch))
        lost = {row.row for row in failed}
        kept = tuple(prompt for prompt in shard.prompts if prompt.row not in lost)
        finish(replace(shard, prompts=kept, skipped=(*shard.skipped, *failed)), results)
        if broken is not None:
            raise NotMeasured(
                f"{broken.reason} at row {broken.row}: {broken.said}. What is finished stays. Run the same command "
                "again: it measures the rest."
            )
        progress.rows(shard.stop - shard.first)


def require_all(shard: Shard) -> None:
    """Raise NotMeasured where a prompt of a shard was not measured, for what needs every one of them."""
    lost = [row for row in shard.skipped if row.reason in PASSING]
    if lost:
        raise NotMeasured(
            f"{lost[0].reason}: {len(lost)} of {len(shard.prompts) + len(lost)} prompts were not measured, first row "
            f"{lost[0].row}. What is finished stays. Run the same command again; if this is said again, with a smaller "
            "--max-length or --dtype."
        )


@dataclass(frozen=True)
class _Broken:
    """A device that failed or did not answer: why, at which row, and what it said."""

    reason: str
    row: int
    said: str


def _run(
    batch: Sequence[Prompt],
    measure: Measure[Result],
    results: list[Result],
    failed: list[Skipped],
    broken: _Broken | None = None,
) -> _Broken | None:
    """Measure a batch, unless the device is broken."""
    if broken is None:
        try:
            results.append(measure(batch))
        except Exception as error:
            reason, said = passing(error), " ".join(str(error).split())[:200]
            if reason is None:
                raise
            if reason != OUT_OF_MEMORY or ranks.size() > 1:  # the other processes wait in the pass that failed here
                broken = _Broken(reason, batch[0].row, said)
        else:
            return None
    if broken is not None:
        failed += [Skipped(prompt.row, broken.reason) for prompt in batch]
        return broken
    import torch  # where a model failed it is there; what only reads a run does without

    # Out here the failed pass is no longer referenced, so its memory can be given back before the next try.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(batch) == 1:
        failed.append(Skipped(batch[0].row, OUT_OF_MEMORY))
        return None
    middle = len(batch) // 2
    broken = _run(batch[:middle], measure, results, failed)
    return _run(batch[middle:], measure, results, failed, broken)


def passing(error: BaseException) -> str | None:
    """Why something failed, where it can go well another time; None where it cannot."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return OUT_OF_MEMORY
    if isinstance(error, TimeoutError):
        return TIME_OUT
    if not isinstance(error, RuntimeError):
        return None
    said = f"{type(error).__name__}: {error}".lower()
    return next((reason for reason in PASSING if any(words in said for words in WORDS[reason])), None)


def is_out_of_memory(error: BaseException) -> bool:
    """True for MemoryError, torch's OutOfMemoryError, and a CPU allocator's RuntimeError."""
    return passing(error) == OUT_OF_MEMORY
