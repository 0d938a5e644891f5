"""What does a matrix of numbers say: pure formulas, of one prompt's state or attention.

No model, tokenizer, device choice, file or table is known here. In reading order:

- ``_spectrum``       how many directions a state uses, and what others publish as its entropy
- ``_norms``          how large its rows and entries are, and which are massive
- ``_theory``         what the massive rows alone prove about the spectrum
- ``_state``          all of these in one pass: `measure_state`
- ``_attention``      where a head looks, and how widely
- ``_heads``          all columns of one block, with what its heads read at the sink and write: `head_metrics`
- ``_attribution``    what each part of a block adds to a row, and into which coordinates
- ``_predictions``    what a state says about the next token, and how probable an answer is

and what these stand on: ``_view`` and ``_eigenvalues`` (one state), ``_kept`` (what stays of a batch's states until it
has passed), ``_padded`` (right-padded vectors; one row for a whole prompt). The same on a GPU, of all prompts and
states at once: ``_kept_there``, ``_spectra`` with ``_cusolver``, ``_vectors`` with ``_state_kernels``, ``_copies``; and
``_write_kernel`` for what heads write.
"""

from thalweg.metrics._attention import (
    attended,
    colsum_concentration,
    colsum_floor,
    colsum_rate,
    diagonal,
    importance,
    mixing,
    mixing_normalized,
    mixing_over_log_length,
    previous,
    sink_rate,
    sink_score,
    sink_uniform,
    svi,
    top_position,
    top_score,
)
from thalweg.metrics._attribution import (
    Attribution,
    SinkRow,
    attribution,
    massive_coordinates,
    row_norms,
    sink_row,
    sink_rows,
)
from thalweg.metrics._heads import (
    HeadsMeasurement,
    HeadsOfBatch,
    SinkAndRest,
    dormant,
    dormant_rate,
    head_metrics,
    head_write_norm,
    sink_and_rest_norms,
    write_factors,
)
from thalweg.metrics._norms import MassiveActivation, Norms, massive_activations, norms
from thalweg.metrics._padded import last_token, mean_over_tokens
from thalweg.metrics._predictions import (
    agreement,
    continuation_likelihood,
    kl_to_last,
    log_probabilities,
    next_token_loss,
    output_entropy,
    target_likelihoods,
    token_loss,
)
from thalweg.metrics._spectrum import (
    anisotropy,
    dominance,
    effective_rank,
    entropy,
    entropy_centred,
    entropy_normalized,
    entropy_skean_1,
    entropy_skean_2,
    entropy_wei,
    entropy_without_massive,
    entropy_without_massive_normalized,
    entropy_without_sink,
    frobenius_sq,
    sigma1_sq,
    sigma2_sq,
    sigma3_sq,
    spectrum,
)
from thalweg.metrics._state import StateMeasurement, StatesMeasurement, StatesOfBatch, bound_violated, measure_state
from thalweg.metrics._theory import MassiveBound, Theorem, massive_bound, spread_entropy, theorem

__all__ = [
    "Attribution",
    "HeadsMeasurement",
    "HeadsOfBatch",
    "MassiveActivation",
    "MassiveBound",
    "Norms",
    "SinkAndRest",
    "SinkRow",
    "StateMeasurement",
    "StatesMeasurement",
    "StatesOfBatch",
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
    "entropy_without_massive",
    "entropy_without_massive_normalized",
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
    "massive_coordinates",
    "mean_over_tokens",
    "measure_state",
    "mixing",
    "mixing_normalized",
    "mixing_over_log_length",
    "next_token_loss",
    "norms",
    "output_entropy",
    "previous",
    "row_norms",
    "sigma1_sq",
    "sigma2_sq",
    "sigma3_sq",
    "sink_and_rest_norms",
    "sink_rate",
    "sink_row",
    "sink_rows",
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
