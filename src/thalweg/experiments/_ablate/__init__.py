"""Ablation: without the MLPs that write the massive row, do sinks and compression go (the paper, section 3.3)?"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from thalweg.errors import UsageError
from thalweg.experiments._declared import Experiment
from thalweg.experiments._options import BUNDLED_DATA, BUNDLED_MODEL, SurveyOptions
from thalweg.store import Findings, open_findings, tables_of


def ablate(
    model: str | Path = BUNDLED_MODEL,
    data: str | Path | Sequence[str | Path] = BUNDLED_DATA,
    *,
    blocks: str | Sequence[int] = "auto",
    seeds: int = 3,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
) -> Findings:
    """Remove what some MLPs add to the sink token, and say whether compression and sinks go with it.

    Each block alone and all together, against the model as it is, prompt by prompt, with controls that could refute
    the claim. A run that exists is joined: finished shards are not measured again, and a higher ``limit`` extends it.

    Args:
        model: hub id or directory; "reference" is the model that comes with thalweg.
        data: short names, files or hub data sets; "bundled" are the prompts that come with thalweg.
        blocks: numbers, or "0,5-7", or "auto": the blocks whose MLPs write the massive row, by attribution.
        seeds: how often each random control is drawn.
        out: the run directory; ``runs/<model>`` by default.
        options: as for a survey.

    Returns:
        The experiment, for reading: tables ``states``, ``blocks`` and ``losses`` by condition and prompt; ``effects``
        (averages and paired differences), ``verdicts`` and ``conditions`` (what each of them consists of, and which
        control could not be run).

    Raises:
        UsageError: a block that the model does not have, or "auto" and no block writes a massive row; a model, a data
            set, an option or the directory cannot be used; the message says what to do.
        ProofError: the model's summands or its logits cannot be told, or an ablation of nothing changes something.

    Example:
        >>> found = ablate(out="runs/demo").table("verdicts").collect()  # doctest: +SKIP
        >>> found.filter(condition="blocks 1")["verdict"].to_list()  # doctest: +SKIP
        ['removed', 'removed']
    """
    from thalweg.experiments._ablate.measure import (
        AUTO,
        NAME,
        _conditions,
        _measured,
        _tables,
        _write_answers,
        _writing_blocks,
    )
    from thalweg.experiments._attribute.measure import attributed
    from thalweg.experiments._index_list import index_list, index_text
    from thalweg.experiments._intervened import OnDemand
    from thalweg.experiments._over_prompts import measure_prompts, unfinished
    from thalweg.experiments._prepare import prepare

    prepared = prepare(model, data, out=out, options=options)
    if seeds < 0:
        raise UsageError(f"--seeds is how often each random control is drawn, 0 or more; got {seeds}.")
    last = prepared.header.models[0].blocks - 1
    named = None if blocks == AUTO else index_list("--blocks", blocks, last)
    loading = OnDemand(prepared.models[0])
    attribution = attributed(prepared, lambda: loading.subject)
    chosen = {source.name: named or _writing_blocks(prepared, attribution, source) for source in prepared.sources}
    settings = {"blocks": AUTO if named is None else index_text(named), "seeds": seeds}
    tables, session = tables_of(NAME), prepared.session
    with open_findings(prepared.path, prepared.header, NAME, settings, tables, session=session) as writer:
        for source in prepared.sources:
            own = replace(prepared, sources=[source])
            if unfinished(own, writer):
                conditions = _conditions(own, writer, loading, attribution, chosen[source.name], seeds)
                measure = partial(_measured, loading, conditions, prepared.header.thresholds)
                measure_prompts(own, writer, loading.subject, measure, _tables, title="ablation")
        _write_answers(writer)
        writer.update(status="finished")
    return writer.reading()


EXPERIMENT = Experiment(
    name="ablation",
    function=ablate,
    group="Intervene",
    answers=("conditions", "verdicts", "effects"),
    view="thalweg.experiments._ablate.view",
)
