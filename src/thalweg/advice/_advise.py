"""All advice that a run's tables give, model by model."""

import math
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

from thalweg.advice._answer import NOT_MEASURED, Advice, Unanswered
from thalweg.advice._states import (
    ACCURACY,
    EMBEDDINGS,
    PERPLEXITY,
    best_embedding,
    exits_by_accuracy,
    exits_by_perplexity,
    phase_of,
    why_not,
)
from thalweg.errors import UsageError
from thalweg.experiments import latest_pairs, reading, surveyed_span
from thalweg.store import ModelFacts, Run, open_run

COSTS = (1.0, 5.0, 10.0)
PHASES = "in which phase a state lies"


def _costs(_: Any, tokens: Sequence[Token]) -> list[float]:
    given = ",".join(token.value for token in tokens)
    try:
        return [float(cost) for cost in given.split(",") if cost.strip()]
    except ValueError as error:
        raise UsageError(f"--cost takes per cents above 0, such as 1,5,10; got {given}.") from error


BY_COMMAS = Parameter(
    name="--cost", n_tokens=-1, converter=_costs, show_default=lambda costs: ",".join(f"{cost:g}" for cost in costs)
)


def advise(run: Run | str | Path, *, costs: Annotated[Sequence[float | int], BY_COMMAS] = COSTS) -> list[Advice]:
    """Say which state to take for embeddings, and from which state on an early exit costs little.

    Reads what the run holds, of survey, lens, mcq, probe and mteb, and measures nothing: what it cannot answer is named
    with the command that would measure it.

    On the command line:

        thalweg advise runs/pythia-410m

        thalweg advise runs/pythia-410m --cost 2,20

    Args:
        run: a run, or its directory.
        costs: of an early exit, in per cent of what the last state reaches; on the command line by commas.

    Returns:
        Advice on each model of the run; of the checkpoints of a training on the last.

    Raises:
        UsageError: a cost is not above 0, or there is no such run.

    Example:
        >>> (advice,) = advise("runs/gpt2", costs=[5])  # doctest: +SKIP
        >>> [answer.text for answer in advice.answers]  # doctest: +SKIP
    """
    wrong = [cost for cost in costs if not (math.isfinite(cost) and cost > 0)]
    if wrong or not costs:
        raise UsageError(f"--cost takes per cents above 0, such as 1,5,10; got {wrong[0] if wrong else 'none'}.")
    opened = run if isinstance(run, Run) else open_run(run)
    with reading(opened, "what it holds"):
        return _advised(opened, [float(cost) for cost in costs])


def _advised(opened: Run, costs: Sequence[float]) -> list[Advice]:
    last = {(pair.model, pair.revision) for pair in latest_pairs(opened)}  # of a training its last checkpoint
    models = [model for model in opened.header.models if (model.name, model.revision) in last or not last]
    return [_about(opened, model, costs) for model in models]


def _about(run: Run, model: ModelFacts, costs: Sequence[float]) -> Advice:
    span, key = surveyed_span(run, model.name, model.revision), {"model": model.name, "revision": model.revision}
    surveyed = "phases" not in run.missing and run.phases.filter(**key).head(1).collect().height > 0
    phase = partial(phase_of, span=span, surveyed=surveyed)
    embedding = best_embedding(run, model, phase)
    accuracy = exits_by_accuracy(run, model, costs, phase)
    perplexity = exits_by_perplexity(run, model, costs, phase)
    where = _joining(run, model)
    commands = (
        (EMBEDDINGS, embedding, f"thalweg mteb {where} --tasks skean32"),
        (ACCURACY, accuracy, f"thalweg mcq {where} --task arc_easy"),
        (PERPLEXITY, perplexity, f"thalweg lens {where} --data wikitext2"),
        (PHASES, surveyed, f"thalweg survey {where}"),
    )
    answers = [*([embedding] if embedding else []), *accuracy, *perplexity]
    reasons = {EMBEDDINGS: why_not(run, model)}
    unanswered = [
        Unanswered(question, command, reasons.get(question, NOT_MEASURED))
        for question, known, command in commands
        if not known
    ]
    phases = _phases(model, span, surveyed=surveyed)
    return Advice(model.name, model.revision, model.blocks, phases, answers, unanswered)


CONSENT = {"allow_pickle": "--allow-pickle", "trust_remote_code": "--trust-remote-code"}
"""What a run does not take over from itself: a person says it each time."""


def _joining(run: Run, model: ModelFacts) -> str:
    """What a command begins with that measures more of a model in its run, as a shell reads it."""
    where = [str(run.path)]
    if len(run.header.models) > 1:
        where = [model.name, *(["--revision", named] if (named := model.asked_revision) else []), "--out", *where]
    consent = [option for name, option in CONSENT.items() if run.session.resolved.get(name)]
    return shlex.join([*where, *consent])


def _phases(model: ModelFacts, span: tuple[int, int] | None, *, surveyed: bool) -> str:
    if not surveyed:
        return "phases not measured"
    if span is None:
        return "no compress phase: no massive activation"
    refine = f"refine from state {span[1] + 1} on" if span[1] < model.blocks else "no refine phase"
    mix = f"mix up to state {span[0] - 1}, " if span[0] else ""
    return f"{mix}compress at states {span[0]}-{span[1]}, {refine}"
