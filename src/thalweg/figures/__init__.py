"""What do a run's tables look like?

Table in, figure out: no model, no torch, no window. Preparation gives tidy tables and is tested; drawing is thin.

In reading order: ``_pairs`` models and data · ``_curves``, ``_bound_curves``, ``_sink_scores`` preparation ·
``_labels`` words on axes · ``_drawing`` lines and bands · ``_depth`` profile, norms, mixing · ``_bounds`` the theorem
· ``_sink_map`` heads · ``_save`` all of it as files · ``_table`` the profile as a table; ``thalweg.mplstyle`` the look.
"""

from thalweg.figures._bound_curves import bound_curves
from thalweg.figures._bounds import BOUND_PANELS, BoundLine, BoundPanel, bounds
from thalweg.figures._curves import curves, share_of_depth
from thalweg.figures._depth import depth_profile, mixing, norms
from thalweg.figures._drawing import GREY, PALETTE
from thalweg.figures._labels import from_zero_to_one, title, unit
from thalweg.figures._pairs import Pair, compress_span, labels, pairs
from thalweg.figures._save import save_figures
from thalweg.figures._sink_map import sink_grid, sink_map
from thalweg.figures._sink_scores import sink_scores
from thalweg.figures._table import DEPTH_COLUMNS, depth_table

__all__ = [
    "BOUND_PANELS",
    "DEPTH_COLUMNS",
    "GREY",
    "PALETTE",
    "BoundLine",
    "BoundPanel",
    "Pair",
    "bound_curves",
    "bounds",
    "compress_span",
    "curves",
    "depth_profile",
    "depth_table",
    "from_zero_to_one",
    "labels",
    "mixing",
    "norms",
    "pairs",
    "save_figures",
    "share_of_depth",
    "sink_grid",
    "sink_map",
    "sink_scores",
    "title",
    "unit",
]
