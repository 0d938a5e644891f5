"""What do a run's tables look like?

Table in, figure out: no model, no torch, no window. Preparation gives tidy tables and is tested; drawing is thin.

In reading order: ``_pairs`` models and data · ``_curves``, ``_bound_curves``, ``_sink_scores``, ``_contributions``,
``_training``, ``_ablated``, ``_clipped``, ``_contrasted`` preparation · ``_labels`` words on axes · ``_drawing``
lines and bands · ``_depth`` profile, norms, mixing · ``_bounds`` the theorem · ``_sink_map`` heads · ``_checkpoints``
over training and sizes · ``_attribution`` what writes the massive row · ``_ablation``, ``_clip`` without it, with it
clamped · ``_contrast`` top and bottom prompts · ``_lens_read``, ``_lens`` what every state predicts · ``_probed`` and
``_probe`` linear classifiers · ``_task_scores``, ``_mteb`` states as embeddings ·
``_choices``, ``_mcq`` multiple choice · ``_save`` all of it as files ·
``_table`` the profile as a table; ``thalweg.mplstyle`` the look.
"""

from thalweg.figures._ablated import (
    ABLATION_COLUMNS,
    ablation_answers,
    ablation_curves,
    ablation_table,
    ablations_of,
)
from thalweg.figures._ablation import ABLATION_METRICS, ablation, condition_looks
from thalweg.figures._attribution import attribution
from thalweg.figures._bound_curves import bound_curves
from thalweg.figures._bounds import BOUND_PANELS, BoundLine, BoundPanel, bounds
from thalweg.figures._checkpoints import (
    emergence,
    sizes_profile,
    step_colors,
    training_grid,
    training_maps,
    training_profile,
)
from thalweg.figures._choices import mcq_answers, mcq_curves, mcq_facts, mcq_model, mcq_tables, mcqs_of
from thalweg.figures._clip import CLIP_TITLES, CLIP_UNITS, clip
from thalweg.figures._clipped import CLIP_COLUMNS, clip_answers, clip_curves, clip_marks, clip_table
from thalweg.figures._contrast import CHANGE_COLORS, contrast
from thalweg.figures._contrasted import (
    CONTRAST_COLUMNS,
    ContrastMap,
    changed_heads,
    contrast_answer,
    contrast_answers,
    contrast_maps,
    contrast_of,
    contrast_prompts,
    contrast_scope,
    contrast_table,
)
from thalweg.figures._contributions import (
    ATTRIBUTION_COLUMNS,
    attribution_answers,
    attribution_table,
    contribution_bars,
    row_along,
)
from thalweg.figures._curves import curves, share_of_depth
from thalweg.figures._depth import depth_profile, mixing, norms
from thalweg.figures._drawing import GREY, PALETTE
from thalweg.figures._labels import from_zero_to_one, title, unit
from thalweg.figures._lens import LENS_LOG, LENS_PANELS, lens
from thalweg.figures._lens_read import (
    LENS_COLUMNS,
    LENS_TITLES,
    LENS_UNITS,
    lens_answer,
    lens_answers,
    lens_name,
    lens_series,
    lens_table,
    lenses_of,
)
from thalweg.figures._mcq import mcq
from thalweg.figures._mteb import mteb
from thalweg.figures._pairs import Pair, compress_span, labels, latest_pairs, pairs, surveyed_span
from thalweg.figures._probe import probe, probe_models
from thalweg.figures._probed import (
    PROBE_COLUMNS,
    SPLITS,
    compared_probes,
    probe_answer,
    probe_curves,
    probe_facts,
    probe_levels,
    probe_table,
    probes_of,
)
from thalweg.figures._save import save_figures
from thalweg.figures._sink_map import sink_grid, sink_map
from thalweg.figures._sink_scores import sink_scores
from thalweg.figures._table import DEPTH_COLUMNS, depth_table
from thalweg.figures._task_scores import (
    FEW_TASKS,
    mteb_answer,
    mteb_curves,
    mteb_facts,
    mteb_model,
    mteb_table,
    mteb_task_curves,
    mtebs_of,
    state_ranges,
)
from thalweg.figures._training import (
    CHECKPOINT_COLUMNS,
    SIZE_COLUMNS,
    TRAINING_METRICS,
    TRAINING_TITLES,
    TrainingAxis,
    checkpoint_answers,
    checkpoint_table,
    compared_sizes,
    emergence_sentence,
    size_ticks,
    trainings,
)

__all__ = [
    "ABLATION_COLUMNS",
    "ABLATION_METRICS",
    "ATTRIBUTION_COLUMNS",
    "BOUND_PANELS",
    "CHANGE_COLORS",
    "CHECKPOINT_COLUMNS",
    "CLIP_COLUMNS",
    "CLIP_TITLES",
    "CLIP_UNITS",
    "CONTRAST_COLUMNS",
    "DEPTH_COLUMNS",
    "FEW_TASKS",
    "GREY",
    "LENS_COLUMNS",
    "LENS_LOG",
    "LENS_PANELS",
    "LENS_TITLES",
    "LENS_UNITS",
    "PALETTE",
    "PROBE_COLUMNS",
    "SIZE_COLUMNS",
    "SPLITS",
    "TRAINING_METRICS",
    "TRAINING_TITLES",
    "BoundLine",
    "BoundPanel",
    "ContrastMap",
    "Pair",
    "TrainingAxis",
    "ablation",
    "ablation_answers",
    "ablation_curves",
    "ablation_table",
    "ablations_of",
    "attribution",
    "attribution_answers",
    "attribution_table",
    "bound_curves",
    "bounds",
    "changed_heads",
    "checkpoint_answers",
    "checkpoint_table",
    "clip",
    "clip_answers",
    "clip_curves",
    "clip_marks",
    "clip_table",
    "compared_probes",
    "compared_sizes",
    "compress_span",
    "condition_looks",
    "contrast",
    "contrast_answer",
    "contrast_answers",
    "contrast_maps",
    "contrast_of",
    "contrast_prompts",
    "contrast_scope",
    "contrast_table",
    "contribution_bars",
    "curves",
    "depth_profile",
    "depth_table",
    "emergence",
    "emergence_sentence",
    "from_zero_to_one",
    "labels",
    "latest_pairs",
    "lens",
    "lens_answer",
    "lens_answers",
    "lens_name",
    "lens_series",
    "lens_table",
    "lenses_of",
    "mcq",
    "mcq_answers",
    "mcq_curves",
    "mcq_facts",
    "mcq_model",
    "mcq_tables",
    "mcqs_of",
    "mixing",
    "mteb",
    "mteb_answer",
    "mteb_curves",
    "mteb_facts",
    "mteb_model",
    "mteb_table",
    "mteb_task_curves",
    "mtebs_of",
    "norms",
    "pairs",
    "probe",
    "probe_answer",
    "probe_curves",
    "probe_facts",
    "probe_levels",
    "probe_models",
    "probe_table",
    "probes_of",
    "row_along",
    "save_figures",
    "share_of_depth",
    "sink_grid",
    "sink_map",
    "sink_scores",
    "size_ticks",
    "sizes_profile",
    "state_ranges",
    "step_colors",
    "surveyed_span",
    "title",
    "training_grid",
    "training_maps",
    "training_profile",
    "trainings",
    "unit",
]
