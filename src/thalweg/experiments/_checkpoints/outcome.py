"""What is told of checkpoints that are measured, and of those that could not be."""

from collections.abc import Mapping
from typing import Any

from thalweg.experiments._checkpoints import Checkpoints
from thalweg.experiments._declared import Experiment
from thalweg.experiments._outcome import Outcome, sections_of, sentences, state_remarks
from thalweg.experiments._survey.outcome import BOUND_VIOLATED
from thalweg.store import Run

PARTLY = 3


def outcome(experiment: Experiment, measured: Checkpoints, asked: Mapping[str, Any]) -> Outcome:  # noqa: ARG001 - a survey's needs what was asked
    """Tell a run by what emerges in it."""
    run, violated = measured.run, measured.run.bound_violations
    findings = run.experiments(experiment.name)[-1]
    sections = sections_of(experiment, run, findings.header.key)
    return Outcome(
        {
            "run": str(run.path),
            "status": run.status,
            "missing": dict(measured.missing),
            "bound_violations": violated,
            "coverage": [pair.model_dump() for pair in run.coverage],
            "answers": sentences(sections),
            **{name: findings.table(name).collect().to_dicts() for name in experiment.answers},
        },
        run,
        sections,
        lines=[f"run: {run.path}    look at it: thalweg report {run.path}"],
        remarks=[*_missing(measured.missing), *_uneven(run), *state_remarks(run)],
        exit_code=BOUND_VIOLATED if violated else PARTLY if measured.missing else 0,
    )


def _missing(missing: Mapping[str, str]) -> list[str]:
    return [f"{name} is not measured: {' '.join(reason.split())}" for name, reason in missing.items()]


def _uneven(run: Run) -> list[str]:
    """What to know before curves are compared."""
    kept = {
        facts.name: [pair.prompts_kept for pair in run.coverage if pair.data == facts.name] for facts in run.header.data
    }
    return [
        f"on {data} some hold {min(prompts)} prompts and some {max(prompts)}: the same --limit for all makes them "
        "comparable."
        for data, prompts in kept.items()
        if min(prompts) < max(prompts)
    ]
