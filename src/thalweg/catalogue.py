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


def _rows(site: Site, *needs: str, function: str | None = None) -> Callable[..., Metric]:
    """Makes rows of one function's results, or each of the function of its name; no value lies below 0 unless said."""

    def row(name: str, title: str, unit: str, range: str, reads_as: str, **more: Any) -> Metric:
        result = {"field": name} if function else {}
        formula = f"thalweg.metrics.{function or name}"
        return Metric(name, site, title, unit, range, formula, needs, reads_as, **{"low": 0.0, **result, **more})

    return row


_spectrum = _rows("state", "spectrum")
_norms = _rows("state", "state", "sink_position", function="norms")
_theorem = _rows("state", "state", "sink_position", function="theorem")
_massive = _rows("state", "state", "massive_ratio", function="massive_bound")
_state = _rows("state", "state")
_mass_at_sink = _rows("head", "column_mass", "lengths", "sink_position")
_mass = _rows("head", "column_mass", "lengths")
_row_entropy = _rows("head", "row_entropy", "lengths")
_values = _rows("head", "values", "lengths", "sink_position", function="sink_and_rest_norms")
_keys = _rows("head", "keys", "lengths", "sink_position", function="sink_and_rest_norms")

# A table, one or two lines to a metric.
# fmt: off
METRICS: tuple[Metric, ...] = (
    _spectrum("entropy", "entropy", "nats", "[0, ln r]", "low = compressed: few directions carry the state"),
    _spectrum("entropy_normalized", "normalized entropy", "share of ln r", "[0, 1]",
        "low = compressed: few directions carry the state; 1 = all directions equally", high=1.0),
    _spectrum("anisotropy", "anisotropy", "share of squared norm", "[1/r, 1]",
        "high = the first direction holds most of the squared norm", high=1.0),
    _spectrum("effective_rank", "effective rank", "directions", "[1, r]",
        "how many directions the state uses as if they were equal", low=1.0),
    _spectrum("sigma1_sq", "largest squared singular value", "activation units²", "[0, inf)",
        "squared norm in the first direction"),
    _spectrum("sigma2_sq", "second squared singular value", "activation units²", "[0, inf), NaN for r < 2",
        "squared norm in the second direction"),
    _spectrum("sigma3_sq", "third squared singular value", "activation units²", "[0, inf), NaN for r < 3",
        "squared norm in the third direction"),
    _spectrum("frobenius_sq", "squared Frobenius norm", "activation units²", "(0, inf)",
        "squared norm of all tokens together"),
    _spectrum("dominance", "dominance of the first direction", "ratio", "[1/(r-1), inf]",
        "high = the first direction outweighs all others together"),
    _norms("sink_norm", "norm of the sink token", "activation units", "[0, inf)",
        "high = a massive activation sits on the sink token"),
    _norms("rest_norm", "mean norm of the other tokens", "activation units", "(0, inf)",
        "rising late = the other tokens catch up with the sink"),
    _norms("norm_ratio", "norm ratio of sink and rest", "ratio", "[0, inf)", "10 or more = the sink token is massive",
        kind="geometric"),
    _norms("row_ratio", "largest against median row norm", "ratio", "[1, inf]",
        "10 or more = some token is massive, wherever it is", low=1.0, kind="geometric"),
    _norms("median_norm", "median row norm", "activation units", "[0, inf)", "how long an ordinary token's row is"),
    _norms("row_position", "position of the largest row", "token", "[0, T)", "which token is largest", kind="place"),
    _norms("peak_value", "largest entry", "activation units", "(-inf, inf)",
        "the single activation of largest magnitude, with its sign", low=None),
    _norms("peak_position", "position of the largest entry", "token", "[0, T)",
        "which token holds the largest activation", kind="place"),
    _norms("peak_dim", "dimension of the largest entry", "dimension", "[0, d)",
        "which dimension holds the largest activation", kind="place"),
    _norms("median_abs", "median magnitude", "activation units", "[0, inf)", "how large an ordinary activation is"),
    _norms("massive_entry_count", "massive entries", "entries", "[0, T d]",
        "entries above 100 and above 1000 times the median magnitude (Sun et al. 2024)"),
    _theorem("M", "squared norm of the sink token", "activation units²", "[0, inf)", "the theorem's M"),
    _theorem("R", "squared norm of the other tokens", "activation units²", "[0, inf)", "the theorem's R"),
    _theorem("alpha", "alignment of the other tokens with the sink", "share", "[0, 1]",
        "1 = every token points along the sink token", high=1.0),
    _theorem("c", "squared norm of the sink against the rest", "ratio", "[0, inf]",
        "high = the sink token outweighs all others together"),
    _theorem("sigma1_sq_bound", "bound on the largest squared singular value", "activation units²", "[0, inf)",
        "the theorem: sigma_1² is at least this"),
    _theorem("sigma1_sq_bound_weak", "bound on the largest squared singular value, without alignment",
        "activation units²", "[0, inf)", "sigma_1² is at least the sink's squared norm"),
    _theorem("dominance_bound", "bound on the dominance", "ratio", "[0, inf]",
        "the theorem: dominance is at least this"),
    _theorem("dominance_bound_weak", "bound on the dominance, without alignment", "ratio", "[0, inf]",
        "dominance is at least c"),
    _theorem("anisotropy_bound", "bound on the anisotropy", "share of squared norm", "[0, 1]",
        "the theorem: anisotropy is at least this", high=1.0),
    _theorem("anisotropy_bound_weak", "bound on the anisotropy, without alignment", "share of squared norm", "[0, 1]",
        "anisotropy is at least c / (c + 1)", high=1.0),
    _theorem("entropy_bound", "bound on the entropy", "nats", "[0, ln r]",
        "the theorem: entropy is at most this; close to it = the sink alone explains the compression"),
    _theorem("entropy_bound_weak", "bound on the entropy, without alignment", "nats", "[0, ln r]",
        "entropy is at most this, by the sink's norm alone"),
    _massive("massive_row_count", "massive tokens", "tokens", "[0, T]",
        "tokens whose norm is at least 10 times the median"),
    _massive("massive_rank", "directions of the massive tokens", "directions", "[0, r]",
        "how many directions the massive tokens span"),
    _massive("massive_share", "share of the massive directions", "share of squared norm", "[0, 1]",
        "high = the massive tokens' directions hold most of the squared norm", high=1.0),
    _massive("entropy_bound_massive", "bound on the entropy by all massive tokens", "nats", "[0, ln r]",
        "entropy is at most this, by all massive tokens together"),
    _rows("state", "spectrum", "bounds", "massive", "tolerance")("bound_violated", "theorem violated", "",
        "true or false", "true = a number contradicts a proved bound: a mistake in the measurement", low=None,
        kind="flag"),
    _rows("state", "state", "massive_ratio")("entropy_without_massive", "entropy without the massive tokens", "nats",
        "[0, ln r]", "far above the entropy = the massive tokens make the compression"),
    _rows("state", "state", "massive_ratio")("entropy_without_massive_normalized",
        "normalized entropy without the massive tokens", "share of ln r", "[0, 1]",
        "far above the normalized entropy = the massive tokens make the compression", high=1.0),
    _rows("state", "state", "sink_position")("entropy_without_sink", "entropy without the sink token", "nats",
        "[0, ln r]", "entropy of the other tokens alone: what compression is left without the sink", variant=True),
    _state("entropy_centred", "entropy, centred", "nats", "[0, ln r]", "entropy after subtracting the mean token",
        variant=True),
    _state("entropy_wei", "entropy, centred unit rows", "nats", "[0, ln r]", "entropy that forgets norms (Diff-eRank)",
        variant=True),
    _state("entropy_skean_1", "kernel entropy of order 1", "nats", "[0, ln r]",
        "entropy of the clamped kernel of Skean et al., order 1", variant=True),
    _state("entropy_skean_2", "kernel entropy of order 2", "nats", "[0, ln r]",
        "entropy of the clamped kernel of Skean et al., order 2", variant=True),
    _mass_at_sink("sink_score", "sink score", "share of attention", "[0, 1]", "high = the head looks at the sink token",
        high=1.0),
    _mass("top_position", "most attended token", "token", "[0, T), -1 undefined",
        "0 = the sink is the first token; elsewhere = another sink", low=-1.0, kind="place"),
    _mass("top_score", "score of the most attended token", "share of attention", "[0, 1]",
        "high = one token gets most of the attention, wherever it is", high=1.0),
    _row_entropy("mixing", "mixing score", "nats", "[0, ln(T!)/T]", "high = the head mixes many tokens"),
    _rows("head", "row_entropy", "visible", "lengths")("mixing_normalized", "normalized mixing score", "share of ln n",
        "[0, 1]", "1 = uniform over everything visible, 0 = one token", high=1.0),
    _row_entropy("mixing_over_log_length", "mixing score over ln T", "share of ln T", "[0, 1)",
        "high = the head mixes many tokens for a prompt of this length", high=1.0),
    _mass("colsum_concentration", "ColSum concentration", "share", "[0, 1]",
        "high = few tokens get the attention, whichever they are", high=1.0),
    _mass_at_sink("colsum_floor", "ColSum concentration due to the sink", "share", "[0, 1]",
        "concentration well above it = a sink elsewhere", high=1.0),
    _rows("head", "diagonal", "lengths")("diagonal", "attention to itself", "share of attention", "[0, 1]",
        "1 = identity head", high=1.0),
    _rows("head", "previous", "lengths")("previous", "attention to the previous token", "share of attention", "[0, 1]",
        "1 = previous-token head", high=1.0),
    _rows("head", "column_mass", "diagonal", "lengths", "sink_position")("svi", "sink-versus-identity index", "share",
        "[0, 1]", "1 = sink, 0 = identity", high=1.0),
    _rows("head", "row_sum", "lengths")("attended", "attention that goes to tokens", "share of attention", "[0, 1]",
        "below 1 = a sink logit takes the rest", high=1.0),
    _values("sink_value_norm", "value norm at the sink", "activation units", "[0, inf)",
        "near zero = looking at the sink writes nothing", field="sink"),
    _values("rest_value_norm", "mean value norm of the other tokens", "activation units", "[0, inf)",
        "what a value is like elsewhere", field="rest"),
    _keys("sink_key_norm", "key norm at the sink", "activation units", "[0, inf)", "the key that sinks are made with",
        field="sink"),
    _keys("rest_key_norm", "mean key norm of the other tokens", "activation units", "[0, inf)",
        "what a key is like elsewhere", field="rest"),
    _rows("head", "outputs", "factors", "lengths")("head_write_norm", "norm of what the head writes",
        "activation units", "[0, inf)", "near zero = the head adds nothing to the residual stream"),
    _rows("head", "head_write_norm")("dormant", "dormant", "", "true or false",
        "true = the head writes less than a tenth of its block's mean", low=None, kind="flag"),
    _rows("block", "sink_score")("sink_rate", "sink rate", "share of heads", "[0, 1]",
        "share of heads whose sink score reaches the threshold", high=1.0),
    _rows("block", "colsum_concentration")("colsum_rate", "ColSum rate", "share of heads", "[0, 1]",
        "share of heads whose attention goes to few tokens", high=1.0),
    _rows("block", "dormant")("dormant_rate", "dormant rate", "share of heads", "[0, 1]",
        "share of heads that write next to nothing", high=1.0),
    _rows("prompt", "length")("sink_uniform", "sink score of uniform attention", "share of attention", "(0, 1]",
        "at or above the threshold = the prompt is too short to tell a sink", high=1.0),
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
