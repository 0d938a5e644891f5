"""How are shards of work run? Here, one after the other; a cluster would be a second file.

An engine takes shards, cuts them into batches, has each batch measured, and hands the results of every finished shard
to whoever stores them. Which engine ran changes no number.

Reading order: :mod:`._local` (shards, batches, halving, and what can pass), :mod:`._progress`.
"""

from thalweg.engines._local import (
    OUT_OF_MEMORY,
    PASSING,
    BatchOptions,
    is_out_of_memory,
    passing,
    require_all,
    run_shards,
)
from thalweg.engines._progress import Progress, progress_bar

__all__ = [
    "OUT_OF_MEMORY",
    "PASSING",
    "BatchOptions",
    "Progress",
    "is_out_of_memory",
    "passing",
    "progress_bar",
    "require_all",
    "run_shards",
]
