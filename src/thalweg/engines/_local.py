"""Run shards here, one after the other; a batch that does not fit is halved, a prompt that does not fit is skipped."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from thalweg.engines._progress import Progress
from thalweg.prompts import Prompt, Shard, Skipped, batches

Result = TypeVar("Result")
Measure = Callable[[Sequence[Prompt]], Result]

OUT_OF_MEMORY = "out of memory"
"""Why a prompt that did not fit is skipped."""
WORDS = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate")
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
        finish: called once for each shard, in order, with the results of its batches; a prompt that did not fit into
            memory has moved from ``prompts`` to ``skipped``.
        options: how prompts share a forward pass.
        progress: told of every batch and shard.
    """
    progress = progress or Progress()
    for shard in shards:
        results, failed = list[Result](), list[Skipped]()
        for batch in batches(
            shard.prompts,
            token_budget=options.token_budget,
            batch_size=options.batch_size,
            same_side_of=options.switch,
        ):
            _run(batch, measure, results, failed)
            progress.tokens(sum(len(prompt) for prompt in batch))
        lost = {row.row for row in failed}
        kept = tuple(prompt for prompt in shard.prompts if prompt.row not in lost)
        finish(replace(shard, prompts=kept, skipped=(*shard.skipped, *failed)), results)
        progress.rows(shard.stop - shard.first)


def _run(batch: Sequence[Prompt], measure: Measure[Result], results: list[Result], failed: list[Skipped]) -> None:
    try:
        results.append(measure(batch))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    else:
        return
    import torch  # where a model failed it is there; what only reads a run does without

    # Out here the failed pass is no longer referenced, so its memory can be given back before the next try.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(batch) == 1:
        failed.append(Skipped(batch[0].row, OUT_OF_MEMORY))
        return
    middle = len(batch) // 2
    _run(batch[:middle], measure, results, failed)
    _run(batch[middle:], measure, results, failed)


def is_out_of_memory(error: BaseException) -> bool:
    """True for MemoryError, torch's OutOfMemoryError, and a CPU allocator's RuntimeError."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in WORDS)
