"""What does a matrix of numbers say: pure formulas, of one prompt's state or attention.

No model, tokenizer, device choice, file or table is known here. In reading order:

- ``_spectrum``       how many directions a state uses
- ``_variants``       what others publish as its entropy
- ``_norms``          how large its rows and entries are, and which are massive
- ``_theory``         what the massive rows alone prove about the spectrum
- ``_state``          all of these in one pass: `measure_state`
- ``_sinks``, ``_mixing``, ``_concentration``, ``_patterns``    where a head looks
- ``_writes``         what it reads at the sink and what it writes
- ``_heads``          all columns of one block: `head_metrics`
- ``_attribution``    what each part of a block adds to the sink's row
- ``_coordinates``    and into which coordinates
- ``_loss``           how well the next token is predicted
- ``_lens``           what a state predicts
- ``_pooling``        one row for a whole prompt
- ``_answers``        how probable an answer is

and what these stand on: ``_view``, ``_eigenvalues``, ``_median`` (one state), ``_padded`` (right-padded vectors).
"""

from thalweg.metrics._answers import continuation_likelihood, target_likelihoods
from thalweg.metrics._attribution import Attribution, SinkRow, attribution, sink_row
from thalweg.metrics._concentration import colsum_concentration, colsum_floor, colsum_rate
from thalweg.metrics._coordinates import SinkCoordinates, sink_coordinates
from thalweg.metrics._heads import head_metrics
from thalweg.metrics._lens import agreement, kl_to_last, log_probabilities, output_entropy, token_loss
from thalweg.metrics._loss import next_token_loss
from thalweg.metrics._mixing import mixing, mixing_normalized, mixing_over_log_length
from thalweg.metrics._norms import MassiveActivation, Norms, massive_activations, norms
from thalweg.metrics._patterns import attended, diagonal, previous, svi
from thalweg.metrics._pooling import last_token, mean_over_tokens
from thalweg.metrics._sinks import importance, sink_rate, sink_score, sink_uniform, top_position, top_score
from thalweg.metrics._spectrum import (
    anisotropy,
    dominance,
    effective_rank,
    entropy,
    entropy_normalized,
    frobenius_sq,
    sigma1_sq,
    sigma2_sq,
    sigma3_sq,
    spectrum,
)
from thalweg.metrics._state import StateMeasurement, bound_violated, measure_state
from thalweg.metrics._theory import MassiveBound, Theorem, massive_bound, spread_entropy, theorem
from thalweg.metrics._variants import (
    entropy_centred,
    entropy_skean_1,
    entropy_skean_2,
    entropy_wei,
    entropy_without_sink,
)
from thalweg.metrics._writes import (
    SinkAndRest,
    dormant,
    dormant_rate,
    head_write_norm,
    sink_and_rest_norms,
    write_factors,
)

__all__ = [
    "Attribution",
    "MassiveActivation",
    "MassiveBound",
    "Norms",
    "SinkAndRest",
    "SinkCoordinates",
    "SinkRow",
    "StateMeasurement",
    "Theorem",
    "agreement",
    "anisotropy",
    "attended",
    "attribution",
    "bound_violated",
    "colsum_concentration",
    "colsum_floor",
    "colsum_rate",
    "continuation_likelihood",
    "diagonal",
    "dominance",
    "dormant",
    "dormant_rate",
    "effective_rank",
    "entropy",
    "entropy_centred",
    "entropy_normalized",
    "entropy_skean_1",
    "entropy_skean_2",
    "entropy_wei",
    "entropy_without_sink",
    "frobenius_sq",
    "head_metrics",
    "head_write_norm",
    "importance",
    "kl_to_last",
    "last_token",
    "log_probabilities",
    "massive_activations",
    "massive_bound",
    "mean_over_tokens",
    "measure_state",
    "mixing",
    "mixing_normalized",
    "mixing_over_log_length",
    "next_token_loss",
    "norms",
    "output_entropy",
    "previous",
    "sigma1_sq",
    "sigma2_sq",
    "sigma3_sq",
    "sink_and_rest_norms",
    "sink_coordinates",
    "sink_rate",
    "sink_row",
    "sink_score",
    "sink_uniform",
    "spectrum",
    "spread_entropy",
    "svi",
    "target_likelihoods",
    "theorem",
    "token_loss",
    "top_position",
    "top_score",
    "write_factors",
]
