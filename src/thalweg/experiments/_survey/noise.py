"""How far a half-precision run can be trusted: the same prompts alone and in a batch, and how far their numbers differ.

In float32 they differ by 1e-5 at most, relative, and nothing is measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import polars as pl

from thalweg.engines import BatchOptions, run_shards
from thalweg.experiments._survey.batch import BatchRows
from thalweg.prompts import Prompt, Shard
from thalweg.store import NoiseFloor

PROMPTS = 3
_STATE, _BLOCK, _HEAD = ["prompt", "state"], ["prompt", "block"], ["prompt", "block", "head"]


def noise_floor(
    prompts: Sequence[Prompt], measure: Callable[[Sequence[Prompt]], BatchRows], batches: BatchOptions
) -> NoiseFloor | None:
    """Measure the first prompts alone and in a batch, a mixing as its block's mean over heads.

    Returns:
        The largest differences, over every state, block and head; None where no batch came about, as of one prompt or
        where two do not fit into memory.
    """
    few = prompts[:PROMPTS]
    alone, together = (_measured(few, measure, replace(batches, batch_size=size)) for size in (1, PROMPTS))
    if len(together) == len(alone):
        return None
    one, other = ((_states(results), _heads(results)) for results in (alone, together))
    states = one[0].join(other[0], on=_STATE, suffix="_other")
    heads = one[1].join(other[1], on=_HEAD, suffix="_other")
    blocks = heads.group_by(_BLOCK).agg(pl.col("mixing", "mixing_other").fill_nan(None).mean())
    norms = [_apart(states, column) for column in ("sink_norm", "rest_norm")]
    return NoiseFloor(
        prompts=len(few),
        entropy=_apart(states, "entropy"),
        norms=max((gap for gap in norms if gap is not None), default=None),
        mixing=_apart(blocks, "mixing"),
        sink_score=_apart(heads, "sink_score", relative=False),
    )


def _measured(
    prompts: Sequence[Prompt], measure: Callable[[Sequence[Prompt]], BatchRows], batches: BatchOptions
) -> list[BatchRows]:
    results = list[BatchRows]()
    shard = Shard(prompts[0].row, prompts[-1].row + 1, tuple(prompts), ())
    run_shards([shard], measure=measure, finish=lambda _, measured: results.extend(measured), options=batches)
    return results


def _states(results: Sequence[BatchRows]) -> pl.DataFrame:
    columns = (*_STATE, "entropy", "sink_norm", "rest_norm")
    return pl.concat([pl.DataFrame({name: result.layers[name] for name in columns}) for result in results])


def _heads(results: Sequence[BatchRows]) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(result.heads) for result in results]).select(*_HEAD, "mixing", "sink_score")


def _apart(rows: pl.DataFrame, column: str, *, relative: bool = True) -> float | None:
    """The largest difference over the rows that have both numbers, relative to the larger of the two."""
    one, other = rows[column].cast(pl.Float64), rows[f"{column}_other"].cast(pl.Float64)
    gaps = (one - other).abs()
    if relative:
        gaps /= pl.DataFrame({"one": one.abs(), "other": other.abs()}).max_horizontal()
    largest = gaps.filter(gaps.is_finite()).max()
    return float(largest) if isinstance(largest, float) else None
