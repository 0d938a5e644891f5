"""What every number is called, what it means, and where its formula is.

One row for every column of the ``layers`` and ``heads`` tables and every rate of the profile. It feeds ``thalweg list
metrics``, the tables of the documentation, axis labels, report captions and the property tests. Importing it costs
nothing: no torch, formulas by dotted name.

The columns of a `Metric`:

- ``function``: dotted name of the formula; where one pass yields several metrics, `field` names the result's attribute.
- ``needs``: the function's arguments, the first one positional: ``state`` a T x d tensor, ``spectrum`` its squared
  singular values, and the statistics of ``thalweg.metrics.head_metrics``.
- ``site``: ``state`` 0..L or ``block`` 0..L-1 of one prompt, ``head`` for one head of a block, ``prompt`` for the
  prompt alone.
- ``range``: what the value can be, in words; ``low`` and ``high`` where both are fixed numbers.
- ``kind``: ``mean`` averaged over prompts, ``geometric`` averaged as a logarithm, ``place`` a position or dimension,
  ``flag`` true or false.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Literal

__all__ = ["METRICS", "Kind", "Metric", "Site", "metric", "metrics_at"]

Site = Literal["state", "block", "head", "prompt"]
Kind = Literal["mean", "geometric", "place", "flag"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the catalogue; the module says what the columns mean."""

    name: str
    site: Site
    title: str
    unit: str
    range: str
    function: str
    needs: tuple[str, ...]
    reads_as: str
    low: float | None = None
    high: float | None = None
    kind: Kind = "mean"
    field: str | None = None
    variant: bool = False

    def resolve(self) -> Callable[..., Any]:
        """The function itself; this is what imports torch."""
        module, _, name = self.function.rpartition(".")
        return getattr(import_module(module), name)

    @property
    def label(self) -> str:
        """Axis label: title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


# What functions take, by the names of their arguments.
_SPECTRUM = ("spectrum",)
_STATE = ("state",)
_SINK = ("state", "sink_position")
_ROWS = ("state", "massive_ratio")
_MASS = ("column_mass", "lengths")
_MASS_AT_SINK = ("column_mass", "lengths", "sink_position")
_ROW_ENTROPY = ("row_entropy", "lengths")
_VALUES = ("values", "lengths", "sink_position")
_KEYS = ("keys", "lengths", "sink_position")

# A table, two or three lines to a metric.
# fmt: off
METRICS: tuple[Metric, ...] = (
    Metric("entropy", "state", "entropy", "nats", "[0, ln r]", "thalweg.metrics.entropy", _SPECTRUM,
           "low = compressed: few directions carry the state", low=0.0),
    Metric("entropy_normalized", "state", "normalized entropy", "share of ln r", "[0, 1]",
           "thalweg.metrics.entropy_normalized", _SPECTRUM,
           "low = compressed: few directions carry the state; 1 = all directions equally", low=0.0, high=1.0),
    Metric("anisotropy", "state", "anisotropy", "share of squared norm", "[1/r, 1]",
           "thalweg.metrics.anisotropy", _SPECTRUM, "high = the first direction holds most of the squared norm",
           low=0.0, high=1.0),
    Metric("effective_rank", "state", "effective rank", "directions", "[1, r]",
           "thalweg.metrics.effective_rank", _SPECTRUM, "how many directions the state uses as if they were equal",
           low=1.0),
    Metric("sigma1_sq", "state", "largest squared singular value", "activation units²", "[0, inf)",
           "thalweg.metrics.sigma1_sq", _SPECTRUM, "squared norm in the first direction", low=0.0),
    Metric("sigma2_sq", "state", "second squared singular value", "activation units²", "[0, inf), NaN for r < 2",
           "thalweg.metrics.sigma2_sq", _SPECTRUM, "squared norm in the second direction", low=0.0),
    Metric("sigma3_sq", "state", "third squared singular value", "activation units²", "[0, inf), NaN for r < 3",
           "thalweg.metrics.sigma3_sq", _SPECTRUM, "squared norm in the third direction", low=0.0),
    Metric("frobenius_sq", "state", "squared Frobenius norm", "activation units²", "(0, inf)",
           "thalweg.metrics.frobenius_sq", _SPECTRUM, "squared norm of all tokens together", low=0.0),
    Metric("dominance", "state", "dominance of the first direction", "ratio", "[1/(r-1), inf]",
           "thalweg.metrics.dominance", _SPECTRUM, "high = the first direction outweighs all others together",
           low=0.0),
    Metric("sink_norm", "state", "norm of the sink token", "activation units", "[0, inf)",
           "thalweg.metrics.norms", _SINK, "high = a massive activation sits on the sink token", low=0.0,
           field="sink_norm"),
    Metric("rest_norm", "state", "mean norm of the other tokens", "activation units", "(0, inf)",
           "thalweg.metrics.norms", _SINK, "rising late = the other tokens catch up with the sink", low=0.0,
           field="rest_norm"),
    Metric("norm_ratio", "state", "norm ratio of sink and rest", "ratio", "[0, inf)",
           "thalweg.metrics.norms", _SINK, "10 or more = the sink token is massive", low=0.0, kind="geometric",
           field="norm_ratio"),
    Metric("row_ratio", "state", "largest against median row norm", "ratio", "[1, inf]",
           "thalweg.metrics.norms", _SINK, "10 or more = some token is massive, wherever it is", low=1.0,
           kind="geometric", field="row_ratio"),
    Metric("row_position", "state", "position of the largest row", "token", "[0, T)",
           "thalweg.metrics.norms", _SINK, "which token is largest", low=0.0, kind="place", field="row_position"),
    Metric("peak_value", "state", "largest entry", "activation units", "(-inf, inf)",
           "thalweg.metrics.norms", _SINK, "the single activation of largest magnitude, with its sign",
           field="peak_value"),
    Metric("peak_position", "state", "position of the largest entry", "token", "[0, T)",
           "thalweg.metrics.norms", _SINK, "which token holds the largest activation", low=0.0, kind="place",
           field="peak_position"),
    Metric("peak_dim", "state", "dimension of the largest entry", "dimension", "[0, d)",
           "thalweg.metrics.norms", _SINK, "which dimension holds the largest activation", low=0.0, kind="place",
           field="peak_dim"),
    Metric("median_abs", "state", "median magnitude", "activation units", "[0, inf)",
           "thalweg.metrics.norms", _SINK, "how large an ordinary activation is", low=0.0, field="median_abs"),
    Metric("massive_entry_count", "state", "massive entries", "entries", "[0, T d]",
           "thalweg.metrics.norms", _SINK,
           "entries above 100 and above 1000 times the median magnitude (Sun et al. 2024)", low=0.0,
           field="massive_entry_count"),
    Metric("M", "state", "squared norm of the sink token", "activation units²", "[0, inf)",
           "thalweg.metrics.theorem", _SINK, "the theorem's M", low=0.0, field="M"),
    Metric("R", "state", "squared norm of the other tokens", "activation units²", "[0, inf)",
           "thalweg.metrics.theorem", _SINK, "the theorem's R", low=0.0, field="R"),
    Metric("alpha", "state", "alignment of the other tokens with the sink", "share", "[0, 1]",
           "thalweg.metrics.theorem", _SINK, "1 = every token points along the sink token", low=0.0, high=1.0,
           field="alpha"),
    Metric("c", "state", "squared norm of the sink against the rest", "ratio", "[0, inf]",
           "thalweg.metrics.theorem", _SINK, "high = the sink token outweighs all others together", low=0.0,
           field="c"),
    Metric("sigma1_sq_bound", "state", "bound on the largest squared singular value", "activation units²", "[0, inf)",
           "thalweg.metrics.theorem", _SINK, "the theorem: sigma_1² is at least this", low=0.0,
           field="sigma1_sq_bound"),
    Metric("sigma1_sq_bound_weak", "state", "bound on the largest squared singular value, without alignment",
           "activation units²", "[0, inf)", "thalweg.metrics.theorem", _SINK,
           "sigma_1² is at least the sink's squared norm", low=0.0, field="sigma1_sq_bound_weak"),
    Metric("dominance_bound", "state", "bound on the dominance", "ratio", "[0, inf]",
           "thalweg.metrics.theorem", _SINK, "the theorem: dominance is at least this", low=0.0,
           field="dominance_bound"),
    Metric("dominance_bound_weak", "state", "bound on the dominance, without alignment", "ratio", "[0, inf]",
           "thalweg.metrics.theorem", _SINK, "dominance is at least c", low=0.0, field="dominance_bound_weak"),
    Metric("anisotropy_bound", "state", "bound on the anisotropy", "share of squared norm", "[0, 1]",
           "thalweg.metrics.theorem", _SINK, "the theorem: anisotropy is at least this", low=0.0, high=1.0,
           field="anisotropy_bound"),
    Metric("anisotropy_bound_weak", "state", "bound on the anisotropy, without alignment", "share of squared norm",
           "[0, 1]", "thalweg.metrics.theorem", _SINK, "anisotropy is at least c / (c + 1)", low=0.0, high=1.0,
           field="anisotropy_bound_weak"),
    Metric("entropy_bound", "state", "bound on the entropy", "nats", "[0, ln r]",
           "thalweg.metrics.theorem", _SINK,
           "the theorem: entropy is at most this; close to it = the sink alone explains the compression", low=0.0,
           field="entropy_bound"),
    Metric("entropy_bound_weak", "state", "bound on the entropy, without alignment", "nats", "[0, ln r]",
           "thalweg.metrics.theorem", _SINK, "entropy is at most this, by the sink's norm alone", low=0.0,
           field="entropy_bound_weak"),
    Metric("massive_row_count", "state", "massive tokens", "tokens", "[0, T]",
           "thalweg.metrics.massive_bound", _ROWS, "tokens whose norm is at least 10 times the median", low=0.0,
           field="massive_row_count"),
    Metric("massive_rank", "state", "directions of the massive tokens", "directions", "[0, r]",
           "thalweg.metrics.massive_bound", _ROWS, "how many directions the massive tokens span", low=0.0,
           field="massive_rank"),
    Metric("massive_share", "state", "share of the massive directions", "share of squared norm", "[0, 1]",
           "thalweg.metrics.massive_bound", _ROWS,
           "high = the massive tokens' directions hold most of the squared norm", low=0.0, high=1.0,
           field="massive_share"),
    Metric("entropy_bound_massive", "state", "bound on the entropy by all massive tokens", "nats", "[0, ln r]",
           "thalweg.metrics.massive_bound", _ROWS, "entropy is at most this, by all massive tokens together", low=0.0,
           field="entropy_bound_massive"),
    Metric("bound_violated", "state", "theorem violated", "", "true or false",
           "thalweg.metrics.bound_violated", ("spectrum", "bounds", "massive", "tolerance"),
           "true = a number contradicts a proved bound: a mistake in the measurement", kind="flag"),
    Metric("entropy_without_sink", "state", "entropy without the sink token", "nats", "[0, ln r]",
           "thalweg.metrics.entropy_without_sink", _SINK,
           "entropy of the other tokens alone: what compression is left without the sink", low=0.0, variant=True),
    Metric("entropy_centred", "state", "entropy, centred", "nats", "[0, ln r]",
           "thalweg.metrics.entropy_centred", _STATE, "entropy after subtracting the mean token", low=0.0,
           variant=True),
    Metric("entropy_wei", "state", "entropy, centred unit rows", "nats", "[0, ln r]",
           "thalweg.metrics.entropy_wei", _STATE, "entropy that forgets norms (Diff-eRank)", low=0.0, variant=True),
    Metric("entropy_skean_1", "state", "kernel entropy of order 1", "nats", "[0, ln r]",
           "thalweg.metrics.entropy_skean_1", _STATE, "entropy of the clamped kernel of Skean et al., order 1",
           low=0.0, variant=True),
    Metric("entropy_skean_2", "state", "kernel entropy of order 2", "nats", "[0, ln r]",
           "thalweg.metrics.entropy_skean_2", _STATE, "entropy of the clamped kernel of Skean et al., order 2",
           low=0.0, variant=True),
    Metric("sink_score", "head", "sink score", "share of attention", "[0, 1]",
           "thalweg.metrics.sink_score", _MASS_AT_SINK, "high = the head looks at the sink token", low=0.0, high=1.0),
    Metric("top_position", "head", "most attended token", "token", "[0, T), -1 undefined",
           "thalweg.metrics.top_position", _MASS, "0 = the sink is the first token; elsewhere = another sink",
           low=-1.0, kind="place"),
    Metric("top_score", "head", "score of the most attended token", "share of attention", "[0, 1]",
           "thalweg.metrics.top_score", _MASS, "high = one token gets most of the attention, wherever it is", low=0.0,
           high=1.0),
    Metric("mixing", "head", "mixing score", "nats", "[0, ln(T!)/T]", "thalweg.metrics.mixing", _ROW_ENTROPY,
           "high = the head mixes many tokens", low=0.0),
    Metric("mixing_normalized", "head", "normalized mixing score", "share of ln n", "[0, 1]",
           "thalweg.metrics.mixing_normalized", ("row_entropy", "visible", "lengths"),
           "1 = uniform over everything visible, 0 = one token", low=0.0, high=1.0),
    Metric("mixing_over_log_length", "head", "mixing score over ln T", "share of ln T", "[0, 1)",
           "thalweg.metrics.mixing_over_log_length", _ROW_ENTROPY,
           "high = the head mixes many tokens for a prompt of this length", low=0.0, high=1.0),
    Metric("colsum_concentration", "head", "ColSum concentration", "share", "[0, 1]",
           "thalweg.metrics.colsum_concentration", _MASS, "high = few tokens get the attention, whichever they are",
           low=0.0, high=1.0),
    Metric("colsum_floor", "head", "ColSum concentration due to the sink", "share", "[0, 1]",
           "thalweg.metrics.colsum_floor", _MASS_AT_SINK, "concentration well above it = a sink elsewhere", low=0.0,
           high=1.0),
    Metric("diagonal", "head", "attention to itself", "share of attention", "[0, 1]",
           "thalweg.metrics.diagonal", ("diagonal", "lengths"), "1 = identity head", low=0.0, high=1.0),
    Metric("previous", "head", "attention to the previous token", "share of attention", "[0, 1]",
           "thalweg.metrics.previous", ("previous", "lengths"), "1 = previous-token head", low=0.0, high=1.0),
    Metric("svi", "head", "sink-versus-identity index", "share", "[0, 1]",
           "thalweg.metrics.svi", ("column_mass", "diagonal", "lengths", "sink_position"), "1 = sink, 0 = identity",
           low=0.0, high=1.0),
    Metric("attended", "head", "attention that goes to tokens", "share of attention", "[0, 1]",
           "thalweg.metrics.attended", ("row_sum", "lengths"), "below 1 = a sink logit takes the rest", low=0.0,
           high=1.0),
    Metric("sink_value_norm", "head", "value norm at the sink", "activation units", "[0, inf)",
           "thalweg.metrics.sink_and_rest_norms", _VALUES, "near zero = looking at the sink writes nothing", low=0.0,
           field="sink"),
    Metric("rest_value_norm", "head", "mean value norm of the other tokens", "activation units", "[0, inf)",
           "thalweg.metrics.sink_and_rest_norms", _VALUES, "what a value is like elsewhere", low=0.0, field="rest"),
    Metric("sink_key_norm", "head", "key norm at the sink", "activation units", "[0, inf)",
           "thalweg.metrics.sink_and_rest_norms", _KEYS, "the key that sinks are made with", low=0.0, field="sink"),
    Metric("rest_key_norm", "head", "mean key norm of the other tokens", "activation units", "[0, inf)",
           "thalweg.metrics.sink_and_rest_norms", _KEYS, "what a key is like elsewhere", low=0.0, field="rest"),
    Metric("head_write_norm", "head", "norm of what the head writes", "activation units", "[0, inf)",
           "thalweg.metrics.head_write_norm", ("outputs", "factors", "lengths"),
           "near zero = the head adds nothing to the residual stream", low=0.0),
    Metric("dormant", "head", "dormant", "", "true or false", "thalweg.metrics.dormant", ("head_write_norm",),
           "true = the head writes less than a tenth of its block's mean", kind="flag"),
    Metric("sink_rate", "block", "sink rate", "share of heads", "[0, 1]",
           "thalweg.metrics.sink_rate", ("sink_score",), "share of heads whose sink score reaches the threshold",
           low=0.0, high=1.0),
    Metric("colsum_rate", "block", "ColSum rate", "share of heads", "[0, 1]",
           "thalweg.metrics.colsum_rate", ("colsum_concentration",),
           "share of heads whose attention goes to few tokens", low=0.0, high=1.0),
    Metric("dormant_rate", "block", "dormant rate", "share of heads", "[0, 1]",
           "thalweg.metrics.dormant_rate", ("dormant",), "share of heads that write next to nothing", low=0.0,
           high=1.0),
    Metric("sink_uniform", "prompt", "sink score of uniform attention", "share of attention", "(0, 1]",
           "thalweg.metrics.sink_uniform", ("length",),
           "at or above the threshold = the prompt is too short to tell a sink", low=0.0, high=1.0),
)
# fmt: on

_BY_NAME = {row.name: row for row in METRICS}


def metric(name: str, /) -> Metric:
    """The row of one metric.

    Raises:
        KeyError: no metric has this name; the message lists the closest ones.
    """
    if name not in _BY_NAME:
        close = get_close_matches(name, _BY_NAME, n=3, cutoff=0.4)
        raise KeyError(f"no metric is called {name!r}; closest: {', '.join(close) or 'none'}; METRICS has all")
    return _BY_NAME[name]


def metrics_at(site: Site, /, *, variants: bool = True) -> tuple[Metric, ...]:
    """The metrics of one site in table order, with or without the entropies under other authors' names."""
    return tuple(row for row in METRICS if row.site == site and (variants or not row.variant))
