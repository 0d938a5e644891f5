"""Contrast: prompts where heads sink most against those where they sink least (the paper, Figs. 5, 26, 27)."""

from pathlib import Path
from typing import Annotated, Unpack

from thalweg.experiments._called import takes_options
from thalweg.experiments._contrast.tables import TABLES
from thalweg.experiments._declared import Experiment
from thalweg.experiments._keywords import ThresholdKeywords
from thalweg.experiments._options import BUNDLED_MODEL, DATA, Data, Model, ThresholdOptions
from thalweg.names import MODEL_OR_RUN
from thalweg.store import Findings


@takes_options
def contrast(
    model_or_run: Annotated[Model, MODEL_OR_RUN] = BUNDLED_MODEL,
    data: Annotated[Data | None, DATA] = None,
    *,
    length: int | str | None = None,
    top: int | None = None,
    by: str = "sink_score",
    fdr: float = 0.05,
    seed: int = 0,
    out: str | Path | None = None,
    options: ThresholdOptions | None = None,
    **_: Unpack[ThresholdKeywords],
) -> Findings:
    """Compare the prompts where heads sink most with those where they sink least, and list the heads that change.

    A run is read as it is, without its model; a model is surveyed first. Each head is tested on a ranking of the
    prompts that is made without it. Sink scores fall with length, so prompts of one length alone are compared, whether
    they end there or were cut there. The paper: Figs. 5, 26, 27, with 20,000 prompts of at most 4,096 tokens and the
    one strongest against the one weakest.

    On the command line:

        thalweg contrast runs/pythia-410m

        thalweg contrast runs/pythia-410m --length 128 --top 50

        thalweg contrast EleutherAI/pythia-410m --data fineweb-edu --limit 20000 --length 2048 --top 1

    Args:
        model_or_run: the directory of a finished run; or a hub id or directory of a model, which is surveyed first, its
            prompts cut to ``length``. In Python also a loaded transformers model, with its ``tokenizer``.
        data: for a model, as for a survey, in Python also in memory; a run has its own. On the command line --data may
            be repeated.
        length: tokens that every prompt has. A model's prompts are cut to it, 64 by default; of a run's, those that
            have it are compared, by default the length of most. "any" compares prompts of different lengths.
        top: prompts a side, the strongest and the weakest; by default a tenth of what is compared, and 5 at least.
        by: what prompts are ranked by, a metric of heads.
        fdr: the false-discovery rate allowed among the heads said to change.
        seed: of the permutations.
        out: for a model, the run directory, ``runs/<model>-contrast-<length>`` by default; an existing one is
            continued.
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
    from thalweg.experiments._contrast.measure import contrasted
    from thalweg.experiments._contrast.prompts import Asked, length_asked

    return contrasted(model_or_run, data, out, options, Asked(by, length_asked(length), top, fdr, seed))


EXPERIMENT = Experiment(
    name="contrast",
    tables={"contrast": TABLES},
    function=contrast,
    group="Measure",
    answers=("rankings", "heads", "prompts"),
    view="thalweg.experiments._contrast.view",
)
