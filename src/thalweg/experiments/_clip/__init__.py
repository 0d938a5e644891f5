"""Clipping: the sink token's row with its coordinates clamped to [-gamma, gamma] (the paper, Fig. 20)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from thalweg.errors import UsageError
from thalweg.experiments._declared import Experiment
from thalweg.experiments._options import BUNDLED_DATA, BUNDLED_MODEL, SurveyOptions
from thalweg.store import Findings, open_findings, tables_of


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
    from thalweg.experiments._clip.gammas import gamma_list
    from thalweg.experiments._clip.measure import AUTO, NAME, _measured, _sweep, _tables, _write_curves
    from thalweg.experiments._index_list import index_list, index_text
    from thalweg.experiments._intervened import OnDemand
    from thalweg.experiments._over_prompts import measure_prompts, unfinished
    from thalweg.experiments._prepare import prepare
    from thalweg.interventions import Clamp

    prepared = prepare(model, data, out=out, options=options)
    if len(prepared.models) != 1:
        raise UsageError(f"clip takes one model at a time; got {len(prepared.models)}.")
    last = prepared.header.models[0].blocks
    gammas = None if gamma is None else gamma_list(gamma)
    chosen = tuple(range(1, last + 1)) if states is None else index_list("--states", states, last)
    settings = {
        "gammas": AUTO if gammas is None else list(gammas),
        "states": index_text(chosen),
        "massive_only": massive_only,
    }
    loading = OnDemand(prepared.models[0])
    tables, session = tables_of(NAME), prepared.session
    with open_findings(prepared.path, prepared.header, NAME, settings, tables, session=session) as writer:
        for source in prepared.sources:
            own = replace(prepared, sources=[source])
            if unfinished(own, writer):
                sweep = _sweep(own, writer, loading, gammas, massive_only=massive_only)
                dims = sweep.dims if massive_only else None
                clamps = [Clamp(chosen, one, (prepared.options.sink_position,), dims) for one in sweep.gammas]
                measure = partial(_measured, loading, clamps, prepared.header.thresholds)
                measure_prompts(own, writer, loading.subject, measure, _tables, title="clip")
        _write_curves(writer)
        writer.update(status="finished")
    return writer.reading()


EXPERIMENT = Experiment(
    name="clip",
    function=clip,
    group="Intervene",
    answers=("sweeps", "curves"),
    view="thalweg.experiments._clip.view",
)
