"""What every state predicts: the paper's Figures 8 (left) and 28, with agreement and KL beside."""

from matplotlib.figure import Figure

from thalweg.figures._drawing import draw_band, finish, line_look, panels, shade, styled
from thalweg.figures._labels import plain
from thalweg.figures._lens_read import LENS_TITLES, LENS_UNITS, lens_series
from thalweg.figures._pairs import Pair, labels, surveyed_span
from thalweg.store import Run

LENS_PANELS = ("perplexity", "output_entropy", "agreement", "kl")
LENS_LOG = ("perplexity",)


@styled
def lens(run: Run, pair: Pair) -> Figure:
    """Draw perplexity, output entropy, agreement with and KL to the last state by state, a line a lens.

    Args:
        run: the run that holds the lenses.
        pair: the model and the data set.

    Returns:
        Four panels: averages over tokens with their 95% interval; shaded the compress phase, where a survey tells it.
    """
    rows, span = lens_series(run, pair), surveyed_span(run, pair.model, pair.revision)
    series = rows["series"].unique(maintain_order=True).to_list()
    figure, axes = panels(len(LENS_PANELS), columns=2, height=2.8, width=4.2)
    for panel, metric in zip(axes, LENS_PANELS, strict=True):
        shade(panel, span, label="compress phase" if metric == LENS_PANELS[0] else None)
        log = metric in LENS_LOG
        for place, name in enumerate(series):
            draw_band(panel, rows.filter(series=name, metric=metric), "state", line_look(place, plain(name)), log=log)
        finish(
            panel,
            x="state",
            y=f"[{LENS_UNITS[metric]}]",
            title=LENS_TITLES[metric],
            log=log,
            unit_range=metric == "agreement",
        )
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    figure.suptitle(plain(f"{labels(run.header)[pair.model, pair.revision]} on {pair.data}"))
    return figure
