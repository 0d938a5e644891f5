"""The columns of every table of a run: names, types, order of rows.

Names are those of the definitions page. A float that is undefined is NaN, a position or a count that is undefined
is null, so that averages and joins need only one kind of gap each.
"""

from typing import Any

import polars as pl

from thalweg.store._columns import Column, Table, Tables

PART_TABLES = ("layers", "heads", "massive", "prompts")
AGGREGATES = ("profile", "phases", "coupling")

# Name to polars type. Neither pl.DataType nor pl.Schema is a hint that the tests' runtime type checker accepts.
_Columns = dict[str, Any]

DATA_KEY: _Columns = {"model": pl.String(), "revision": pl.String(), "data": pl.String()}
KEY: _Columns = {**DATA_KEY, "prompt": pl.Int64()}


def _columns(names: str, dtype: Any) -> _Columns:
    return dict.fromkeys(names.split(), dtype)


_LAYERS: _Columns = {
    **KEY,
    **_columns("state tokens", pl.Int32()),
    **_columns("entropy entropy_normalized anisotropy effective_rank", pl.Float64()),
    **_columns("sigma1_sq sigma2_sq sigma3_sq frobenius_sq", pl.Float64()),
    **_columns("sink_norm rest_norm norm_ratio row_ratio", pl.Float64()),
    **_columns("row_position", pl.Int64()),
    **_columns("peak_value", pl.Float64()),
    **_columns("peak_position peak_dim", pl.Int64()),
    **_columns("median_abs M R alpha c dominance", pl.Float64()),
    **_columns("sigma1_sq_bound sigma1_sq_bound_weak dominance_bound dominance_bound_weak", pl.Float64()),
    **_columns("anisotropy_bound anisotropy_bound_weak entropy_bound entropy_bound_weak", pl.Float64()),
    **_columns("massive_row_count massive_rank", pl.Int64()),
    **_columns("massive_share entropy_bound_massive", pl.Float64()),
    **_columns("massive_entry_count", pl.Int64()),
    **_columns("bound_violated", pl.Boolean()),
    **_columns("reason", pl.String()),
}
_VARIANTS = _columns(
    "entropy_without_sink entropy_centred entropy_wei entropy_skean_1 entropy_skean_2",
    pl.Float64(),
)
_HEADS: _Columns = {
    **KEY,
    **_columns("block head", pl.Int32()),
    **_columns("sink_score", pl.Float32()),
    **_columns("top_position", pl.Int32()),
    **_columns("top_score mixing mixing_normalized mixing_over_log_length", pl.Float32()),
    **_columns("colsum_concentration colsum_floor diagonal previous svi attended", pl.Float32()),
    **_columns("sink_value_norm rest_value_norm sink_key_norm rest_key_norm head_write_norm", pl.Float32()),
    **_columns("dormant", pl.Boolean()),
}
_MASSIVE: _Columns = {
    **KEY,
    **_columns("kind", pl.String()),
    **_columns("state", pl.Int32()),
    **_columns("position token_id", pl.Int64()),
    **_columns("token", pl.String()),
    **_columns("dim", pl.Int64()),
    **_columns("value row_norm", pl.Float64()),
}
_PROMPTS: _Columns = {
    **KEY,
    **_columns("tokens", pl.Int32()),
    **_columns("first_token", pl.Int64()),
    **_columns("truncated", pl.Boolean()),
    **_columns("sink_uniform", pl.Float64()),
    **_columns("sha256", pl.String()),
}
_PROFILE: _Columns = {
    **DATA_KEY,
    **_columns("site", pl.String()),
    **_columns("index", pl.Int32()),
    **_columns("phase metric", pl.String()),
    **_columns("mean std low high", pl.Float64()),
    **_columns("n", pl.Int64()),
    **_columns("geometric", pl.Boolean()),
}
_PHASES: _Columns = {
    **DATA_KEY,
    **_columns("states blocks", pl.Int32()),
    **_columns("prompts", pl.Int64()),
    **_columns("massive_share_threshold", pl.Float64()),
    **_columns("has_massive_activations", pl.Boolean()),
    **_columns("compress_first compress_last", pl.Int32()),
    **_columns("compress_first_depth compress_last_depth", pl.Float64()),
    **_columns("has_refine", pl.Boolean()),
    "dips": pl.List(pl.Int64()),
    **_columns("agreement", pl.Float64()),
    **_columns("rise_state fall_state rest_norm_rise_state", pl.Int32()),
    **_columns("sun_prompt_share", pl.Float64()),
    **_columns("mix_mixing mix_sink_rate mix_entropy_normalized", pl.Float64()),
    **_columns("compress_mixing compress_sink_rate compress_entropy_normalized", pl.Float64()),
    **_columns("refine_mixing refine_sink_rate refine_entropy_normalized", pl.Float64()),
    **_columns("reason", pl.String()),
}
_COUPLING: _Columns = {
    **DATA_KEY,
    **_columns("coupling_entropy coupling_sink coupling_sink_next", pl.Float64()),
    **_columns("reason", pl.String()),
    **_columns("coupling_entropy_std coupling_sink_std coupling_sink_next_std", pl.Float64()),
}
_SCHEMAS = {
    "layers": _LAYERS,
    "heads": _HEADS,
    "massive": _MASSIVE,
    "prompts": _PROMPTS,
    "profile": _PROFILE,
    "phases": _PHASES,
    "coupling": _COUPLING,
}
# Rows of one part are sorted by these; parts follow one another by row range, so that a table read back is sorted.
_ORDER = {
    "layers": ("prompt", "state"),
    "heads": ("prompt", "block", "head"),
    "massive": ("prompt", "state", "position", "kind", "dim"),
    "prompts": ("prompt",),
}
# A massive row has no single entry: its value is absent, which is not the same as undefined.
_ABSENT = {"massive": ("value",)}


def schema(table: str, *, variants: bool = False, keep_text: bool = False) -> dict[str, Any]:
    """Give the columns of one table, in order.

    Args:
        table: one of ``layers heads massive prompts profile phases coupling``.
        variants: ``layers`` carries the entropies that others publish under the same name.
        keep_text: ``prompts`` carries the text itself.

    Returns:
        Column names with their polars types.

    Raises:
        ValueError: there is no such table.
    """
    if table not in _SCHEMAS:
        raise ValueError(f"expected one of {', '.join(_SCHEMAS)} as table, got {table!r}")
    columns = dict(_SCHEMAS[table])
    if table == "layers" and variants:
        columns |= _VARIANTS
    if table == "prompts" and keep_text:
        columns["text"] = pl.String()
    return columns


def survey_tables(*, variants: bool = False, keep_text: bool = False) -> Tables:
    """The tables of a survey."""

    def table(name: str) -> Table:
        columns = tuple(Column(*pair) for pair in schema(name, variants=variants, keep_text=keep_text).items())
        return Table(name, columns, _ORDER.get(name, ()), _ABSENT.get(name, ()))

    return Tables({name: table(name) for name in PART_TABLES}, {name: table(name) for name in AGGREGATES})
