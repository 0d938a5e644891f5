"""Lenses: what every state predicts, of text, all states from one forward pass (the paper, Figs. 8 and 28)."""

from collections.abc import Sequence
from pathlib import Path

from thalweg.errors import UsageError
from thalweg.experiments._declared import Experiment
from thalweg.experiments._options import BUNDLED_DATA, BUNDLED_MODEL, SurveyOptions
from thalweg.store import Findings


def lens(
    model: str | Path = BUNDLED_MODEL,
    data: str | Path | Sequence[str | Path] = BUNDLED_DATA,
    *,
    tuned: str | Path | None = None,
    final_norm: bool = True,
    blocks: bool | None = None,
    block_length: int | None = None,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
) -> Findings:
    """Read every state as a prediction of the next token: loss, perplexity, entropy, and how far from the last state.

    The model runs once a prompt for all states. A run that exists is joined: finished shards are not measured again,
    and a higher ``limit`` extends it.

    Args:
        model: hub id or directory; "reference" is the model that comes with thalweg.
        data: short names, files or hub data sets; "bundled" are the prompts that come with thalweg.
        tuned: a tuned lens: a directory, a run in which one was trained, or "AlignmentResearch/tuned-lens" for the one
            that is published for the model. The logit lens by default.
        final_norm: False leaves the final norm out of the lens; agreement and KL are to the model itself all the same.
        blocks: join the rows to one text and cut it into blocks; by default for lines of a .txt file and WikiText-2,
            while rows of anything else are scored one by one. ``limit`` then counts blocks.
        block_length: tokens of a block; the model's context by default.
        out: the run directory; ``runs/<model>`` by default.
        options: as for a survey.

    Returns:
        The experiment, for reading: tables ``lens`` (sums by prompt and state over tokens 1..T-1) and ``curves``
        (averages by state, every token counting once; perplexity is exp(loss)).

    Raises:
        UsageError: a model, a data set, an option, the directory or the tuned lens cannot be used; the message says
            what to do.
        ProofError: the model's unembedding cannot be told.

    Example:
        >>> curves = lens(out="runs/demo").table("curves").collect()  # doctest: +SKIP
        >>> curves.filter(metric="perplexity").select("state", "value")  # doctest: +SKIP
    """
    from thalweg.experiments._lens.measure import _asked, lensed
    from thalweg.experiments._prepare import prepare

    prepared = prepare(model, data, out=out, options=options)
    if len(prepared.models) != 1:
        raise UsageError(f"lens takes one model at a time; got {len(prepared.models)}.")
    if tuned is not None and not final_norm:
        raise UsageError("--no-final-norm goes with the logit lens; a tuned lens was trained with the final norm.")
    return lensed(prepared, _asked(prepared, tuned, final_norm, blocks, block_length))


EXPERIMENT = Experiment(
    name="lens",
    function=lens,
    group="Downstream",
    answers=("curves",),
    view="thalweg.experiments._lens.view",
)
