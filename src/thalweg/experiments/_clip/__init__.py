"""Clipping: the sink token's row with its coordinates clamped to [-gamma, gamma] (the paper, Fig. 20)."""

from collections.abc import Sequence
from pathlib import Path

from thalweg.experiments._declared import Experiment
from thalweg.experiments._options import BUNDLED_DATA, BUNDLED_MODEL, SurveyOptions
from thalweg.store import Findings


def clip(
    model: str | Path = BUNDLED_MODEL,
    data: str | Path | Sequence[str | Path] = BUNDLED_DATA,
    *,
    gamma: str | Sequence[float] | None = None,
    states: str | Sequence[int] | None = None,
    massive_only: bool = False,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
) -> Findings:
    """Clamp the sink token's row after every block, and measure entropy, sinks and loss against the clamp.

    Every gamma is compared with the model as it is, prompt by prompt. A run that exists is joined: finished shards are
    not measured again, and a higher ``limit`` extends it.

    Args:
        model: hub id or directory; "reference" is the model that comes with thalweg.
        data: short names, files or hub data sets; "bundled" are the prompts that come with thalweg.
        gamma: numbers, or "1,10,100", or a log grid "1:1000:13"; by default 13 values from the largest ordinary
            coordinate of the sink's row to its largest massive one.
        states: after which blocks, as numbers or "2-6"; 1..L by default.
        massive_only: clamp the massive coordinates alone.
        out: the run directory; ``runs/<model>`` by default.
        options: as for a survey.

    Returns:
        The experiment, for reading: tables ``states``, ``blocks`` and ``losses`` by gamma and prompt, gamma infinite
        being the model as it is; ``curves`` (averages and paired differences) and ``sweeps`` (the gammas, and what the
        sink's row is made of).

    Raises:
        UsageError: a gamma that is not above 0, a state that the model does not have; no massive coordinate, and no
            gamma or the massive coordinates alone are asked for; a model, a data set, an option or the directory
            cannot be used; the message says what to do.
        ProofError: the model's states or its logits cannot be told.

    Example:
        >>> curves = clip(gamma="10,100", out="runs/demo").table("curves").collect()  # doctest: +SKIP
        >>> curves.filter(site="compress", metric="compression").select("gamma", "clipped")  # doctest: +SKIP
    """
    from thalweg.experiments._clip.measure import asked_of, clipped
    from thalweg.experiments._prepare import prepare

    prepared = prepare(model, data, out=out, options=options).of_one_model("clip")
    return clipped(prepared, asked_of(prepared, gamma, states, massive_only=massive_only))


EXPERIMENT = Experiment(
    name="clip",
    function=clip,
    group="Intervene",
    answers=("sweeps", "curves"),
    view="thalweg.experiments._clip.view",
)
