"""What does a matrix of numbers say: pure formulas, from one prompt's state or attention to the profile of a model.

No model, tokenizer, device choice or file is known here. In reading order:

- ``_spectrum``       how many directions a state uses
- ``_variants``       what others publish as its entropy
- ``_norms``          how large its rows and entries are, and which are massive
- ``_theory``         what the massive rows alone prove about the spectrum
- ``_state``          all of these in one pass: `measure_state`
- ``_sinks``, ``_mixing``, ``_concentration``, ``_patterns``    where a head looks
- ``_writes``         what it reads at the sink and what it writes
- ``_heads``          all columns of one block: `head_metrics`
- ``_profile``        averages over prompts, by depth
- ``_phases``         mix, compress, refine
- ``_coupling``       whether norms, entropy and sinks change together
- ``_emergence``      when they appear in training
- ``_attribution``    what each part of a block adds to the sink's row
- ``_writers``        which blocks write the massive row
- ``_coordinates``    and into which coordinates
- ``_effects``        what a change of the model does, prompt by prompt
- ``_verdicts``       whether compression and sinks went with it
- ``_changes``        all of it in one table
- ``_contrast``       which heads behave differently where the others sink most
- ``_loss``           how well the next token is predicted
- ``_lens``           what a state predicts; ``_lens_curves`` averages it over prompts
- ``_pooling``        one row for a whole prompt
- ``_accuracy``       how often an answer is right
- ``_answers``        how probable an answer is
- ``_task_means``     how good a state is over many tasks

and what these stand on: ``_view``, ``_eigenvalues``, ``_median`` (one state), ``_padded`` (right-padded vectors),
``_intervals``, ``_boundaries``, ``_trajectory`` (tables). Names are loaded when first used, so that profiles, phases
and couplings of a run on disk need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg.metrics._accuracy import Accuracy, accuracy
    from thalweg.metrics._answers import continuation_likelihood, target_likelihoods
    from thalweg.metrics._attribution import Attribution, SinkRow, attribution, sink_row
    from thalweg.metrics._changes import changes
    from thalweg.metrics._concentration import colsum_concentration, colsum_floor, colsum_rate
    from thalweg.metrics._contrast import (
        Comparable,
        Contrast,
        HeadChanges,
        TopAndBottom,
        comparable,
        contrast,
        head_changes,
        mean_of_others,
        permutations_needed,
        top_and_bottom,
    )
    from thalweg.metrics._coordinates import SinkCoordinates, sink_coordinates
    from thalweg.metrics._coupling import Correlation, coupling, fisher_mean, step_correlation
    from thalweg.metrics._effects import effects, measurements
    from thalweg.metrics._emergence import checkpoint_curves, emergence, training_order, training_step
    from thalweg.metrics._heads import head_metrics
    from thalweg.metrics._lens import agreement, kl_to_last, log_probabilities, output_entropy, token_loss
    from thalweg.metrics._lens_curves import lens_curves
    from thalweg.metrics._loss import next_token_loss
    from thalweg.metrics._mixing import mixing, mixing_normalized, mixing_over_log_length
    from thalweg.metrics._norms import MassiveActivation, Norms, massive_activations, norms
    from thalweg.metrics._patterns import attended, diagonal, previous, svi
    from thalweg.metrics._phases import phases
    from thalweg.metrics._pooling import last_token, mean_over_tokens
    from thalweg.metrics._profile import profile, short_prompts
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
    from thalweg.metrics._task_means import task_means
    from thalweg.metrics._theory import MassiveBound, Theorem, massive_bound, spread_entropy, theorem
    from thalweg.metrics._variants import (
        entropy_centred,
        entropy_skean_1,
        entropy_skean_2,
        entropy_wei,
        entropy_without_sink,
    )
    from thalweg.metrics._verdicts import compress_means, depth_means, verdict, verdicts
    from thalweg.metrics._writers import Writers, attribution_profile, writers, writing_blocks
    from thalweg.metrics._writes import (
        SinkAndRest,
        dormant,
        dormant_rate,
        head_write_norm,
        sink_and_rest_norms,
        write_factors,
    )

__all__ = [
    "Accuracy",
    "Attribution",
    "Comparable",
    "Contrast",
    "Correlation",
    "HeadChanges",
    "MassiveActivation",
    "MassiveBound",
    "Norms",
    "SinkAndRest",
    "SinkCoordinates",
    "SinkRow",
    "StateMeasurement",
    "Theorem",
    "TopAndBottom",
    "Writers",
    "accuracy",
    "agreement",
    "anisotropy",
    "attended",
    "attribution",
    "attribution_profile",
    "bound_violated",
    "changes",
    "checkpoint_curves",
    "colsum_concentration",
    "colsum_floor",
    "colsum_rate",
    "comparable",
    "compress_means",
    "continuation_likelihood",
    "contrast",
    "coupling",
    "depth_means",
    "diagonal",
    "dominance",
    "dormant",
    "dormant_rate",
    "effective_rank",
    "effects",
    "emergence",
    "entropy",
    "entropy_centred",
    "entropy_normalized",
    "entropy_skean_1",
    "entropy_skean_2",
    "entropy_wei",
    "entropy_without_sink",
    "fisher_mean",
    "frobenius_sq",
    "head_changes",
    "head_metrics",
    "head_write_norm",
    "importance",
    "kl_to_last",
    "last_token",
    "lens_curves",
    "log_probabilities",
    "massive_activations",
    "massive_bound",
    "mean_of_others",
    "mean_over_tokens",
    "measure_state",
    "measurements",
    "mixing",
    "mixing_normalized",
    "mixing_over_log_length",
    "next_token_loss",
    "norms",
    "output_entropy",
    "permutations_needed",
    "phases",
    "previous",
    "profile",
    "short_prompts",
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
    "step_correlation",
    "svi",
    "target_likelihoods",
    "task_means",
    "theorem",
    "token_loss",
    "top_and_bottom",
    "top_position",
    "top_score",
    "training_order",
    "training_step",
    "verdict",
    "verdicts",
    "write_factors",
    "writers",
    "writing_blocks",
]

# Files that import no torch come first: a name of theirs is found before torch is needed.
_FILES = (
    "_profile",
    "_phases",
    "_coupling",
    "_emergence",
    "_writers",
    "_effects",
    "_verdicts",
    "_changes",
    "_contrast",
    "_accuracy",
    "_lens_curves",
    "_task_means",
    "_spectrum",
    "_variants",
    "_norms",
    "_theory",
    "_state",
    "_sinks",
    "_mixing",
    "_concentration",
    "_patterns",
    "_writes",
    "_heads",
    "_attribution",
    "_coordinates",
    "_loss",
    "_pooling",
    "_lens",
    "_answers",
)


def __getattr__(name: str) -> object:
    if name in __all__:
        for file in _FILES:
            module = import_module(f"{__name__}.{file}")
            if name in vars(module):
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
