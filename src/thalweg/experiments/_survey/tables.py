"""What a survey adds to a run: every column of its tables."""

from dataclasses import replace

from thalweg.catalogue import METRICS
from thalweg.experiments import _columns as shared
from thalweg.experiments._columns import FLAG, HALF, NUMBER, SMALL, TEXT, WHOLE, WHOLES, metrics
from thalweg.store import Column, Table, Tables

VARIANTS = tuple(metric.name for metric in METRICS if metric.variant)
"""Measured and kept on request."""

_INSIDE_PHASES = tuple(
    Column(f"{phase}_{name}", NUMBER, f"mean `{name}` inside the {phase} phase; NaN if there is none", unit)
    for phase in ("mix", "compress", "refine")
    for name, unit in (("mixing", "nats"), ("sink_rate", "share of heads"), ("entropy_normalized", "share of ln r"))
)

_LAYERS = (
    *shared.KEY,
    shared.STATE,
    shared.TOKENS,
    *metrics(
        NUMBER,
        "entropy entropy_normalized anisotropy effective_rank sigma1_sq sigma2_sq sigma3_sq frobenius_sq "
        "sink_norm rest_norm norm_ratio row_ratio",
    ),
    *metrics(WHOLE, "row_position"),
    *metrics(NUMBER, "peak_value"),
    *metrics(WHOLE, "peak_position peak_dim"),
    *metrics(
        NUMBER,
        "median_abs M R alpha c dominance sigma1_sq_bound sigma1_sq_bound_weak dominance_bound "
        "dominance_bound_weak anisotropy_bound anisotropy_bound_weak entropy_bound entropy_bound_weak",
    ),
    *metrics(WHOLE, "massive_row_count massive_rank"),
    *metrics(NUMBER, "massive_share entropy_bound_massive"),
    *metrics(WHOLE, "massive_entry_count"),
    *metrics(FLAG, "bound_violated"),
    shared.REASON,
    *metrics(NUMBER, "entropy_without_sink entropy_centred entropy_wei entropy_skean_1 entropy_skean_2"),
)
_HEADS = (
    *shared.KEY,
    shared.BLOCK,
    shared.HEAD,
    *metrics(HALF, "sink_score"),
    *metrics(SMALL, "top_position"),
    *metrics(
        HALF,
        "top_score mixing mixing_normalized mixing_over_log_length colsum_concentration colsum_floor "
        "diagonal previous svi attended sink_value_norm rest_value_norm sink_key_norm rest_key_norm "
        "head_write_norm",
    ),
    *metrics(FLAG, "dormant"),
)
_MASSIVE = (
    *shared.KEY,
    Column("kind", TEXT, "`entry` or `row`"),
    shared.STATE,
    Column("position", WHOLE, "which token, from 0", "token"),
    Column("token_id", WHOLE, "its id"),
    Column("token", TEXT, "its text"),
    Column("dim", WHOLE, "dimension of the entry; null for a row", "dimension"),
    Column("value", NUMBER, "the entry, with its sign; null for a row"),
    Column("row_norm", NUMBER, "norm of the row", "activation units"),
)
_PROMPTS = (
    *shared.KEY,
    shared.TOKENS,
    Column("first_token", WHOLE, "id of token 0"),
    Column("truncated", FLAG, "whether tokens were cut off at the end"),
    *metrics(NUMBER, "sink_uniform"),
    Column("sha256", TEXT, "hash of the text's UTF-8 bytes"),
    Column("text", TEXT, "the text itself; only with `--keep-text`"),
)
_PROFILE = (
    *shared.DATA_KEY,
    Column("site", TEXT, "`state` or `block`"),
    Column("index", SMALL, "number of the state or block"),
    Column("phase", TEXT, "mix, compress or refine, a block that of the state it reads; null without a compress phase"),
    Column("metric", TEXT, "a column of `layers` or `heads`, or a rate by block"),
    *shared.AVERAGE,
)
_PHASES = (
    *shared.DATA_KEY,
    Column("states", SMALL, "L, the number of the last state", "state"),
    Column("blocks", SMALL, "blocks with softmax attention"),
    shared.PROMPTS,
    Column("massive_share_threshold", NUMBER, "share of prompts from which a state is massive for the model", "share"),
    shared.HAS_MASSIVE_ACTIVATIONS,
    shared.COMPRESS_FIRST,
    shared.COMPRESS_LAST,
    Column("compress_first_depth", NUMBER, "`compress_first` as a share of L", "share"),
    Column("compress_last_depth", NUMBER, "`compress_last` as a share of L", "share"),
    Column("has_refine", FLAG, "whether states follow the compress phase"),
    Column("dips", WHOLES, "states inside the compress phase that are not massive", "state"),
    Column("agreement", NUMBER, "share of prompts whose own first massive state is `compress_first`", "share"),
    Column("rise_state", SMALL, "state with the largest rise of ln `norm_ratio` from the state before", "state"),
    Column("fall_state", SMALL, "state with the largest fall of it", "state"),
    Column(
        "rest_norm_rise_state",
        SMALL,
        "first state, after the least `rest_norm` of the compress phase, where it has doubled",
        "state",
    ),
    Column(
        "sun_prompt_share", NUMBER, "share of prompts with a massive entry in some state (Sun et al. 2024)", "share"
    ),
    *_INSIDE_PHASES,
    shared.REASON,
)
_COUPLING = (
    *shared.DATA_KEY,
    Column(
        "coupling_entropy",
        NUMBER,
        "Pearson r of the changes of `sink_norm` and `entropy`, state by state",
        "correlation",
    ),
    Column(
        "coupling_sink",
        NUMBER,
        "Pearson r of the changes of `sink_norm` at a state and of `sink_rate` at the block that reads it",
        "correlation",
    ),
    Column("coupling_sink_next", NUMBER, "the same with the block after that one", "correlation"),
    shared.REASON,
    *(
        Column(f"coupling_{name}_std", NUMBER, "standard deviation over models; NaN but in their common row")
        for name in ("entropy", "sink", "sink_next")
    ),
)

TABLES = Tables(
    parts={
        "layers": Table("one prompt and state", _LAYERS, order=("prompt", "state")),
        "heads": Table("one prompt, block and head", _HEADS, order=("prompt", "block", "head")),
        "massive": Table(
            "one massive entry or row, at most 16 a prompt and state, the largest first",
            _MASSIVE,
            order=("prompt", "state", "position", "kind", "dim"),
            absent=("value",),
        ),
        "prompts": Table("one prompt", _PROMPTS, order=("prompt",)),
    },
    wholes={
        "profile": Table("one metric at one state or block, averaged over prompts", _PROFILE),
        "phases": Table("one model on one data set", _PHASES),
        "coupling": Table("one model on one data set; with several models one more for all of them", _COUPLING),
    },
)


def tables(*, variants: bool, keep_text: bool) -> Tables:
    """The tables of one survey: ``layers`` with what others call entropy, ``prompts`` with the text itself, or not."""
    left_out = {"layers": () if variants else VARIANTS, "prompts": () if keep_text else ("text",)}
    parts = {name: _without(table, left_out.get(name, ())) for name, table in TABLES.parts.items()}
    return replace(TABLES, parts=parts)


def _without(table: Table, names: tuple[str, ...]) -> Table:
    return replace(table, columns=tuple(column for column in table.columns if column.name not in names))
