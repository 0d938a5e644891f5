"""The columns of the tables that experiments add to a run, ``RUN/<experiment>/``.

Every experiment has tables in parts, one row for each prompt and condition, and tables made from them when all is
measured. The last part table named is the one whose file makes a part count.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.store._columns import Column, Table, Tables
from thalweg.store._schemas import DATA_KEY, KEY


@dataclass(frozen=True)
class ExperimentTables:
    """Tables of one experiment: name -> columns with their polars types.

    Attributes:
        parts: written shard by shard.
        wholes: written at the end, from the parts.
        order: the columns that the rows of a table are sorted by.
        plans: those of the wholes that say what is measured, written before the first part; a new part leaves them.
    """

    parts: dict[str, dict[str, Any]]
    wholes: dict[str, dict[str, Any]]
    order: dict[str, tuple[str, ...]]
    plans: tuple[str, ...] = ()


def _columns(names: str, dtype: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), dtype)


_ATTRIBUTION = ExperimentTables(
    parts={
        "states": {
            **KEY,
            **_columns("state", pl.Int32()),
            **_columns("sink_norm rest_norm norm_ratio sink_ratio row_ratio", pl.Float64()),
            **_columns("row_position", pl.Int64()),
            **_columns("along sum_error", pl.Float64()),
        },
        "dimensions": {
            **KEY,
            **_columns("block", pl.Int32()),
            **_columns("part", pl.String()),
            **_columns("rank", pl.Int32()),
            **_columns("dim", pl.Int64()),
            **_columns("value", pl.Float64()),
        },
        "contributions": {
            **KEY,
            **_columns("block", pl.Int32()),
            **_columns("part", pl.String()),
            **_columns("norm along share cosine", pl.Float64()),
            **_columns("before", pl.Boolean()),
            **_columns("reference_state", pl.Int32()),
            **_columns("reason", pl.String()),
        },
    },
    wholes={
        "attribution": {
            **DATA_KEY,
            **_columns("block", pl.Int32()),
            **_columns("part metric", pl.String()),
            **_columns("mean std low high", pl.Float64()),
            **_columns("n", pl.Int64()),
            **_columns("writes", pl.Boolean()),
            "dims": pl.List(pl.Int64()),
        },
        "writers": {
            **DATA_KEY,
            "writing_blocks": pl.List(pl.Int64()),
            **_columns("writing_share writing_threshold writing_agreement", pl.Float64()),
            **_columns("reference_state", pl.Int32()),
            **_columns("reference_agreement", pl.Float64()),
            **_columns("has_massive_activations", pl.Boolean()),
            **_columns("compress_first compress_last", pl.Int32()),
            **_columns("prompts massive_prompts", pl.Int64()),
            **_columns("reason", pl.String()),
        },
    },
    order={
        "states": ("prompt", "state"),
        "dimensions": ("prompt", "block", "part", "rank"),
        "contributions": ("prompt", "block", "part"),
    },
)

_CHECKPOINTS = ExperimentTables(
    parts={},
    wholes={
        "curves": {
            **DATA_KEY,
            **_columns("parameters step order", pl.Int64()),
            **_columns("metric", pl.String()),
            **_columns("index", pl.Int32()),
            **_columns("value", pl.Float64()),
        },
        "emergence": {
            **_columns("model data phenomenon revision", pl.String()),
            **_columns("step order", pl.Int64()),
            **_columns("metric", pl.String()),
            **_columns("threshold", pl.Float64()),
            **_columns("definition reason", pl.String()),
        },
    },
    order={},
)

_CONDITION = {**_columns("condition", pl.String()), **_columns("seed", pl.Int32())}
_STATES_AFTER = {
    **_columns("state", pl.Int32()),
    **_columns("entropy entropy_normalized sink_norm rest_norm norm_ratio row_ratio", pl.Float64()),
    **_columns("row_position", pl.Int64()),
}
_BLOCKS_AFTER = {**_columns("block", pl.Int32()), **_columns("sink_rate sink_score", pl.Float64())}
_LOSSES_AFTER = {**_columns("loss", pl.Float64()), **_columns("tokens", pl.Int32())}
_PLACE = {**_columns("site", pl.String()), **_columns("index", pl.Int32()), **_columns("metric", pl.String())}
_CHANGED = {
    **_columns("difference low high", pl.Float64()),
    **_columns("n", pl.Int64()),
    **_columns("geometric", pl.Boolean()),
}
_ABLATION = ExperimentTables(
    parts={
        "states": {**KEY, **_CONDITION, **_columns("control blocks", pl.String()), **_STATES_AFTER},
        "blocks": {**KEY, **_CONDITION, **_BLOCKS_AFTER},
        "losses": {**KEY, **_CONDITION, **_LOSSES_AFTER},
    },
    wholes={
        "conditions": {
            **DATA_KEY,
            **_CONDITION,
            **_columns("control blocks", pl.String()),
            "dims": pl.List(pl.Int64()),
            **_columns("reason", pl.String()),
        },
        "effects": {
            **DATA_KEY,
            **_CONDITION,
            **_PLACE,
            **_columns("intact intact_std intact_low intact_high", pl.Float64()),
            **_columns("ablated ablated_std ablated_low ablated_high", pl.Float64()),
            **_CHANGED,
            **_columns("compress_first compress_last", pl.Int32()),
        },
        "verdicts": {
            **DATA_KEY,
            **_CONDITION,
            **_columns("control blocks phenomenon verdict", pl.String()),
            **_columns("intact ablated ablated_low ablated_high difference low high", pl.Float64()),
            **_columns("n", pl.Int64()),
            **_columns("loss_intact loss_ablated loss_change loss_low loss_high", pl.Float64()),
            "massive_states": pl.List(pl.Int64()),
            **_columns("massive_position", pl.Int64()),
            **_columns("massive_position_share", pl.Float64()),
            **_columns("replacement", pl.String()),
            **_columns("compress_first compress_last", pl.Int32()),
            **_columns("reason", pl.String()),
        },
    },
    order={
        "states": ("prompt", "condition", "seed", "state"),
        "blocks": ("prompt", "condition", "seed", "block"),
        "losses": ("prompt", "condition", "seed"),
    },
    plans=("conditions",),
)
_CLIP = ExperimentTables(
    parts={
        "states": {**KEY, **_columns("gamma", pl.Float64()), **_STATES_AFTER},
        "blocks": {**KEY, **_columns("gamma", pl.Float64()), **_BLOCKS_AFTER},
        "losses": {**KEY, **_columns("gamma", pl.Float64()), **_LOSSES_AFTER},
    },
    wholes={
        "sweeps": {
            **DATA_KEY,
            "gammas": pl.List(pl.Float64()),
            "dims": pl.List(pl.Int64()),
            **_columns("peak ordinary", pl.Float64()),
        },
        "curves": {
            **DATA_KEY,
            **_columns("gamma", pl.Float64()),
            **_PLACE,
            **_columns("intact intact_std intact_low intact_high", pl.Float64()),
            **_columns("clipped clipped_std clipped_low clipped_high", pl.Float64()),
            **_CHANGED,
            **_columns("compress_first compress_last", pl.Int32()),
        },
    },
    order={
        "states": ("prompt", "gamma", "state"),
        "blocks": ("prompt", "gamma", "block"),
        "losses": ("prompt", "gamma"),
    },
    plans=("sweeps",),
)

_CONTRAST = ExperimentTables(
    parts={},
    wholes={
        "rankings": {
            **DATA_KEY,
            **_columns("by", pl.String()),
            **_columns("length", pl.Int32()),
            **_columns("prompts per_side other_length undefined heads changed permutations", pl.Int64()),
            **_columns("exact", pl.Boolean()),
            **_columns("least_p fdr", pl.Float64()),
            **_columns("reason", pl.String()),
        },
        "heads": {
            **DATA_KEY,
            **_columns("block head", pl.Int32()),
            **_columns("metric", pl.String()),
            **_columns("top bottom difference low high p q", pl.Float64()),
            **_columns("changes", pl.Boolean()),
            **_columns("overall_top overall_bottom overall_difference", pl.Float64()),
            **_columns("per_side prompts", pl.Int64()),
            **_columns("reason", pl.String()),
        },
        "prompts": {
            **DATA_KEY,
            **_columns("side", pl.String()),
            **_columns("rank", pl.Int32()),
            **_columns("prompt", pl.Int64()),
            **_columns("tokens", pl.Int32()),
            **_columns("score", pl.Float64()),
        },
    },
    order={},
)

_PROBE = ExperimentTables(
    parts={},
    wholes={
        "splits": {
            **DATA_KEY,
            **_columns("split source", pl.String()),
            **_columns("rows examples questions", pl.Int64()),
            **_columns("skipped", pl.String()),
            **_columns("classes", pl.Int32()),
            **_columns("chance majority", pl.Float64()),
        },
        "accuracy": {
            **DATA_KEY,
            **_columns("split", pl.String()),
            **_columns("state", pl.Int32()),
            **_columns("accuracy low high", pl.Float64()),
            **_columns("n", pl.Int64()),
            **_columns("loss", pl.Float64()),
            **_columns("converged", pl.Boolean()),
        },
    },
    order={},
)

_LENS = ExperimentTables(
    parts={
        "lens": {
            **KEY,
            **_columns("state scored", pl.Int32()),
            **_columns("loss_sum output_entropy_sum agreement_sum kl_sum", pl.Float64()),
        },
    },
    wholes={
        "curves": {
            **DATA_KEY,
            **_columns("state", pl.Int32()),
            **_columns("metric", pl.String()),
            **_columns("value low high", pl.Float64()),
            **_columns("scored n", pl.Int64()),
        },
    },
    order={"lens": ("prompt", "state")},
)

_TUNED_LENS = ExperimentTables(
    parts={},
    wholes={
        "training": {
            **DATA_KEY,
            **_columns("step", pl.Int64()),
            **_columns("state", pl.Int32()),
            **_columns("kl", pl.Float64()),
        },
    },
    order={},
)

_MODEL = _columns("model revision", pl.String())
_MTEB = ExperimentTables(
    parts={},
    wholes={
        "scores": {
            **_MODEL,
            **_columns("task type metric", pl.String()),
            **_columns("state", pl.Int32()),
            **_columns("split subset", pl.String()),
            **_columns("score", pl.Float64()),
            **_columns("data_revision reason", pl.String()),
        },
        "tasks": {
            **_MODEL,
            **_columns("task type metric", pl.String()),
            **_columns("state", pl.Int32()),
            **_columns("score", pl.Float64()),
        },
        "means": {
            **_MODEL,
            **_columns("type", pl.String()),
            **_columns("state", pl.Int32()),
            **_columns("mean std low high", pl.Float64()),
            **_columns("n", pl.Int64()),
            **_columns("behind behind_low behind_high", pl.Float64()),
            **_columns("best tied", pl.Boolean()),
        },
    },
    order={},
)

_MCQ = ExperimentTables(
    parts={},
    wholes={
        "scores": {
            **_MODEL,
            **_columns("lens task", pl.String()),
            **_columns("group", pl.Boolean()),
            **_columns("shots state", pl.Int32()),
            **_columns("metric", pl.String()),
            **_columns("value stderr", pl.Float64()),
            **_columns("n", pl.Int64()),
            **_columns("chance", pl.Float64()),
            **_columns("truncated", pl.Int64()),
            **_columns("version reason", pl.String()),
        },
    },
    order={},
)

EXPERIMENTS: dict[str, ExperimentTables] = {
    "ablation": _ABLATION,
    "attribution": _ATTRIBUTION,
    "checkpoints": _CHECKPOINTS,
    "clip": _CLIP,
    "contrast": _CONTRAST,
    "lens": _LENS,
    "mcq": _MCQ,
    "mteb": _MTEB,
    "probe": _PROBE,
    "tuned_lens": _TUNED_LENS,
}
"""By name of the directory in the run."""


def experiment_schema(experiment: str, table: str) -> dict[str, Any]:
    """Give the columns of one table of an experiment, in order.

    Raises:
        ValueError: there is no such experiment or table.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"expected one of {', '.join(EXPERIMENTS)} as experiment, got {experiment!r}")
    tables = EXPERIMENTS[experiment]
    known = {**tables.parts, **tables.wholes}
    if table not in known:
        raise ValueError(f"expected one of {', '.join(known)} as table of {experiment}, got {table!r}")
    return known[table]


def tables_of(experiment: str) -> Tables:
    """The tables of an experiment."""
    known = EXPERIMENTS[experiment]

    def table(name: str, columns: dict[str, Any]) -> Table:
        return Table(name, tuple(Column(*pair) for pair in columns.items()), known.order.get(name, ()))

    return Tables(
        parts={name: table(name, columns) for name, columns in known.parts.items()},
        wholes={name: table(name, columns) for name, columns in known.wholes.items()},
        plans=known.plans,
    )
