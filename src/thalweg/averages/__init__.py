"""What do many prompts say together: rows of tables to a model's profile, its phases, and what a change does to it.

Polars and SciPy; no torch, model or file is known here. In reading order:

- ``_courses``        at which states a row stands out: compress, and waves
- ``_segments``       which row that is, and how each segment ends
- ``_profile``        mean, spread and 95% interval of many prompts, by depth
- ``_claims``         what the paper says of each phase, checked; what the massive row does for the compression
- ``_phases``         mix, compress, refine: all that is known of each
- ``_coupling``       whether norms, entropy and sinks change together
- ``_emergence``      when they appear in training
- ``_effects``        what a change of the model does, prompt by prompt
- ``_verdicts``       whether compression and sinks went with it
- ``_compared``       whether two models, or two data sets, differ: where, and by how much
- ``_paired``         whether one state is right more often than another, on the same questions
"""

from thalweg.averages._claims import CLAIMS, Claim, claims, phase_values
from thalweg.averages._compared import HEAD_PLACES, OVERALL, PLACES, compared, measured_heads, measured_places
from thalweg.averages._coupling import Correlation, coupling, fisher_mean, step_correlation
from thalweg.averages._courses import (
    COMPRESS,
    KEYS,
    Course,
    Segment,
    birth_and_death,
    boundaries,
    courses,
    is_of,
    segments_of,
)
from thalweg.averages._effects import changes, depth_means, effects, measurements, segment_means
from thalweg.averages._emergence import checkpoint_curves, emergence, training_order, training_step
from thalweg.averages._paired import ALPHA, holm, mcnemar, not_told_apart
from thalweg.averages._phases import phases
from thalweg.averages._profile import (
    STATISTICS,
    gathered,
    profile,
    ratio_of_sums,
    short_prompts,
    statistics,
    t_quantile,
    with_statistics,
)
from thalweg.averages._segments import segment_rows, segments
from thalweg.averages._verdicts import replacements, verdict, verdicts

__all__ = [
    "ALPHA",
    "CLAIMS",
    "COMPRESS",
    "HEAD_PLACES",
    "KEYS",
    "OVERALL",
    "PLACES",
    "STATISTICS",
    "Claim",
    "Correlation",
    "Course",
    "Segment",
    "birth_and_death",
    "boundaries",
    "changes",
    "checkpoint_curves",
    "claims",
    "compared",
    "coupling",
    "courses",
    "depth_means",
    "effects",
    "emergence",
    "fisher_mean",
    "gathered",
    "holm",
    "is_of",
    "mcnemar",
    "measured_heads",
    "measured_places",
    "measurements",
    "not_told_apart",
    "phase_values",
    "phases",
    "profile",
    "ratio_of_sums",
    "replacements",
    "segment_means",
    "segment_rows",
    "segments",
    "segments_of",
    "short_prompts",
    "statistics",
    "step_correlation",
    "t_quantile",
    "training_order",
    "training_step",
    "verdict",
    "verdicts",
    "with_statistics",
]
