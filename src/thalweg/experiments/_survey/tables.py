"""What a survey adds to a run: every column of its tables."""

from dataclasses import replace

import thalweg.experiments._columns as shared
from thalweg.catalogue import METRICS
from thalweg.experiments._columns import FLAG, HALF, NUMBER, SMALL, TEXT, WHOLE, WHOLES, metrics
from thalweg.store import Column, Table, Tables

VARIANTS = tuple(metric.name for metric in METRICS if metric.variant)
"""Measured and kept on request."""

_INSIDE_PHASES = tuple(
    Column(f"{phase}_{name}", NUMBER, f"mean `{name}` inside the {phase} phase; NaN if there is none", unit)
    for phase in ("mix", "compress", "refine")
    for name, unit in (
        ("mixing", "nats"),
        ("mixing_normalized", "share of ln n"),
        ("sink_rate", "share of heads"),
        ("entropy_normalized", "share of ln r"),
    )
)

_LAYERS = (
    *shared.KEY,
    shared.STATE,
    shared.TOKENS,
    *metrics(
        NUMBER,
        "entropy entropy_normalized anisotropy effective_rank sigma1_sq sigma2_sq sigma3_sq frobenius_sq "
        "entropy_without_massive entropy_without_massive_normalized sink_norm rest_norm norm_ratio row_ratio "
        "median_norm",
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
    Column("value", NUMBER, "the entry, with its sign; null for a row", "activation units"),
    Column("row_norm", NUMBER, "norm of the row", "activation units"),
)
_ROW_NORMS = (
    *shared.KEY,
    Column("position", WHOLE, "which token, from 0", "token"),
    shared.STATE,
    Column("norm", NUMBER, "norm of its row", "activation units"),
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
    Column("phase", TEXT, "mix, compress, refine or wave, a block that of the state it reads; null without phases"),
    Column("metric", TEXT, "a column of `layers` or `heads`, or a rate by block"),
    *shared.AVERAGE,
)
_PHASES = (
    *shared.DATA_KEY,
    Column("states", SMALL, "L, the number of the last state", "state"),
    Column("blocks", SMALL, "blocks with softmax attention"),
    Column("prompts", WHOLE, "prompts that phases, segments and claims are about", "prompts"),
    Column("left_out", WHOLE, "prompts of fewer than three tokens, or without a row ratio at some state", "prompts"),
    Column("massive_share_threshold", NUMBER, "share of prompts from which a state is massive for the model", "share"),
    shared.HAS_MASSIVE_ACTIVATIONS,
    Column("massive_at_embedding", FLAG, "whether state 0, which no block wrote, is massive"),
    shared.COMPRESS_FIRST,
    shared.COMPRESS_LAST,
    Column("compress_first_depth", NUMBER, "`compress_first` as a share of L", "share"),
    Column("compress_last_depth", NUMBER, "`compress_last` as a share of L", "share"),
    Column("peak_state", SMALL, "state of the largest mean `row_ratio` of those that are massive", "state"),
    Column("peak_ratio", NUMBER, "geometric mean over prompts of `row_ratio` there", "ratio"),
    Column("has_refine", FLAG, "whether states follow the compress phase"),
    Column("dips", WHOLES, "states inside the compress phase that are below its line", "state"),
    Column("shoulders", WHOLES, "massive states beside the compress phase, of a run that reaches into it", "state"),
    *(
        Column(f"agreement_{edge}", NUMBER, f"share of prompts whose own compress has the same {edge} state", "share")
        for edge in ("first", "last")
    ),
    *(
        Column(f"compress_{edge}_{line}", SMALL, f"`compress_{edge}` with the line at peak^{power}", "state")
        for line, power in (("low", 0.4), ("high", 0.6))
        for edge in ("first", "last")
    ),
    Column("line_matters", FLAG, "whether one of these lines moves a boundary by more than two states"),
    *(
        Column(
            f"runs_at_{ratio}",
            WHOLES,
            f"first and last state, in turn, of runs that overlap compress, were {ratio} the massive ratio",
            "state",
        )
        for ratio in (5, 10, 20)
    ),
    Column("rise_state", SMALL, "state with the largest rise of ln `norm_ratio` from the state before", "state"),
    Column("fall_state", SMALL, "state with the largest fall of it", "state"),
    Column(
        "rest_norm_rise_state",
        SMALL,
        "first state after the peak whose `rest_norm` is more than twice its least in the compress phase",
        "state",
    ),
    Column(
        "sun_prompt_share", NUMBER, "share of prompts with a massive entry in some state (Sun et al. 2024)", "share"
    ),
    *_INSIDE_PHASES,
    *(
        Column(f"{phase}_mark", TEXT, f"whether {phase} is `as the paper says`, `not here`, or `cannot be told`")
        for phase in ("mix", "compress", "refine")
    ),
    Column("row_norm_share", NUMBER, "share of sigma_1^2 that the largest row's norm alone explains in compress"),
    Column("row_aligned_share", NUMBER, "the same with the other rows' alignment to it"),
    Column("row_explains", TEXT, "`norm` where that is 0.9 of sigma_1^2, else `alignment`, else `neither`"),
    Column("given_back", NUMBER, "share of the drop of the normalized entropy that is gone without massive rows"),
    Column("given_back_low", NUMBER, "lower end of its 95% interval"),
    Column("given_back_high", NUMBER, "upper end of it"),
    Column("given_back_n", WHOLE, "prompts that entered", "prompts"),
    Column("row_compresses", TEXT, "`yes` where more than half is given back, `no` where less than a tenth, `partly`"),
    shared.REASON,
)
_SEGMENTS = (
    *shared.SEGMENT_SPAN,
    Column("dips", WHOLES, "states inside that are below the line", "state"),
    Column("shoulders", WHOLES, "massive states beside it, of a run that reaches into it", "state"),
    Column("first_depth", NUMBER, "`first` as a share of L", "share"),
    Column("last_depth", NUMBER, "`last` as a share of L", "share"),
    *shared.SEGMENT_ROW,
    Column("end_state", SMALL, "state of the lowest row ratio between the peak and the next segment", "state"),
    Column("end", TEXT, "`removed` where the row's norm falls, `caught up` where the others' grow, `both`; or null"),
    Column("row_factor", NUMBER, "norm of the segment's row at `end_state` over that at the peak, geometric mean"),
    Column("others_factor", NUMBER, "the same of the median norm"),
    Column("end_prompts", WHOLE, "prompts that these factors are known of", "prompts"),
)
_CLAIMS = (
    *shared.DATA_KEY,
    Column("phase", TEXT, "mix, compress or refine"),
    Column("claim", TEXT, "what the paper says of it"),
    Column("metric", TEXT, "what is averaged inside the phase"),
    Column(
        "form", TEXT, "what is compared: `value`, `difference` or `ratio` to another phase, `recovered` of the drop"
    ),
    Column("side", TEXT, "`above`, `below`, `at least` or `at most` the bound"),
    Column("bound", NUMBER, "what is compared with"),
    Column("mean", NUMBER, "over prompts, of the value, difference, ratio or share recovered"),
    shared.LOW,
    shared.HIGH,
    shared.N,
    Column("here", NUMBER, "mean of the metric in the phase"),
    Column("there", NUMBER, "mean in the phase it is compared with; NaN without one"),
    Column("mark", TEXT, "`as the paper says`, `not here` or `cannot be told`; null for a claim that is left out"),
    Column("decides", FLAG, "false for a remark, which does not enter the phase's mark"),
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
        "layers": Table(
            "one prompt and state",
            _LAYERS,
            order=("prompt", "state"),
            brief=("state", "entropy_normalized", "anisotropy", "sink_norm", "rest_norm", "row_ratio", "peak_value"),
        ),
        "heads": Table(
            "one prompt, block and head",
            _HEADS,
            order=("prompt", "block", "head"),
            brief=("block", "head", "sink_score", "top_score", "mixing_normalized", "diagonal", "previous", "svi"),
        ),
        "massive": Table(
            "one massive entry or row, at most 16 a prompt and state, the largest first",
            _MASSIVE,
            order=("prompt", "state", "position", "kind", "dim"),
            absent=("value",),
        ),
        "row_norms": Table(
            "one prompt, position and state, of every position whose row is the largest of some state after the first "
            "and reaches half of the massive ratio there",
            _ROW_NORMS,
            order=("prompt", "position", "state"),
        ),
        "prompts": Table("one prompt", _PROMPTS, order=("prompt",)),
    },
    wholes={
        "profile": Table(
            "one metric at one state or block, averaged over prompts",
            _PROFILE,
            brief=("entropy_normalized", "sink_norm", "rest_norm", "row_ratio", "sink_rate", "mixing_normalized"),
            across="metric",
        ),
        "phases": Table("one model on one data set", _PHASES),
        "segments": Table("one segment, which is the compress phase or a wave", _SEGMENTS),
        "claims": Table("one claim of the paper about one phase", _CLAIMS),
        "coupling": Table("one model on one data set; with several models one more for all of them", _COUPLING),
    },
    main="profile",
)


def tables(*, variants: bool, keep_text: bool) -> Tables:
    """The tables of one survey: ``layers`` with what others call entropy, ``prompts`` with the text itself, or not."""
    left_out = {"layers": () if variants else VARIANTS, "prompts": () if keep_text else ("text",)}
    parts = {name: _without(table, left_out.get(name, ())) for name, table in TABLES.parts.items()}
    return replace(TABLES, parts=parts)


def _without(table: Table, names: tuple[str, ...]) -> Table:
    return replace(table, columns=tuple(column for column in table.columns if column.name not in names))
