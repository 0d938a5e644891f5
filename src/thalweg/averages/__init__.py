"""What do many prompts say together: rows of tables to a model's profile, its phases, and what a change does to it.

Polars and SciPy; no torch, model or file is known here. In reading order:

- ``_intervals``      mean, spread and 95% interval of many prompts
- ``_boundaries``     at which states a model is massive
- ``_profile``        averages over prompts, by depth
- ``_phases``         mix, compress, refine
- ``_coupling``       whether norms, entropy and sinks change together
- ``_emergence``      when they appear in training
- ``_effects``        what a change of the model does, prompt by prompt
- ``_verdicts``       whether compression and sinks went with it
- ``_changes``        all of it in one table

and what these stand on: ``_long`` (one row for each number), ``_trajectory`` (one metric by depth).
"""

from thalweg.averages._boundaries import KEYS, boundaries, is_of
from thalweg.averages._changes import changes
from thalweg.averages._coupling import Correlation, coupling, fisher_mean, step_correlation
from thalweg.averages._effects import effects, measurements
from thalweg.averages._emergence import checkpoint_curves, emergence, training_order, training_step
from thalweg.averages._intervals import STATISTICS, gathered, statistics, t_quantile, with_statistics
from thalweg.averages._phases import phases
from thalweg.averages._profile import profile, short_prompts
from thalweg.averages._verdicts import compress_means, depth_means, verdict, verdicts

__all__ = [
    "KEYS",
    "STATISTICS",
    "Correlation",
    "boundaries",
    "changes",
    "checkpoint_curves",
    "compress_means",
    "coupling",
    "depth_means",
    "effects",
    "emergence",
    "fisher_mean",
    "gathered",
    "is_of",
    "measurements",
    "phases",
    "profile",
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
