"""Contrast: prompts where heads sink most against those where they sink least (the paper, Figs. 5, 26, 27)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from thalweg.experiments._declared import Experiment
from thalweg.experiments._options import BUNDLED_MODEL, SurveyOptions
from thalweg.store import Findings, open_run


def contrast(
    model_or_run: str | Path = BUNDLED_MODEL,
    data: str | Path | Sequence[str | Path] | None = None,
    *,
    length: int | str | None = None,
    top: int | None = None,
    by: str = "sink_score",
    fdr: float = 0.05,
    seed: int = 0,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
) -> Findings:
    """Compare the prompts where heads sink most with those where they sink least, and list the heads that change.

    Each head is tested on a ranking of the prompts that is made without it. Sink scores fall with length, so prompts of
    one length alone are compared, whether they end there or were cut there. A run needs no model: its tables are read.

    Args:
        model_or_run: the directory of a finished run, or a model, which is surveyed first, its prompts cut to
            ``length``.
        data: for a model, as for a survey; a run has its own.
        length: in tokens. For a model 64 by default; for a run the length of most of its prompts. "any" compares
            prompts of different lengths.
        top: prompts a side; by default a tenth of what is compared, and 5 at least.
        by: what prompts are ranked by, a metric of heads.
        fdr: the false-discovery rate allowed among the heads said to change.
        seed: of the permutations.
        out: for a model, the run directory; ``runs/<model>-contrast-<length>`` by default.
        options: for a model, as for a survey.

    Returns:
        The experiment, for reading: tables ``heads`` (differences and tests), ``prompts`` (the two ends of the ranking
        by all heads) and ``rankings`` (what was compared, for each model and data set, or why nothing was).

    Raises:
        UsageError: an option cannot be used, or too few prompts have one length; the message says which lengths there
            are.
        RunError: the run is not finished, is damaged, or holds no scores of heads.

    Example:
        >>> found = contrast("runs/pythia-410m", length=128, top=50)  # doctest: +SKIP
        >>> found.table("heads").filter(pl.col("changes")).collect()  # doctest: +SKIP
    """
    from thalweg.experiments._contrast.measure import (
        LENGTH,
        _contrasted,
        _refuse_what_is_a_models,
        _require_finished,
        _surveyed,
    )
    from thalweg.experiments._contrast.prompts import Asked, length_asked

    asked = Asked(by, length_asked(length), top, fdr, seed)
    if not (Path(model_or_run) / "run.json").exists():
        asked = replace(asked, length=LENGTH if asked.length is None else asked.length)
        return _contrasted(_surveyed(model_or_run, data, out, options, asked.length), asked, options)
    _refuse_what_is_a_models(data, out, options)
    run = open_run(model_or_run)
    _require_finished(run)
    return _contrasted(run, asked, options)


EXPERIMENT = Experiment(
    name="contrast",
    function=contrast,
    group="Measure",
    answers=("rankings", "heads", "prompts"),
    view="thalweg.experiments._contrast.view",
)
