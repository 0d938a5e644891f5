"""What is told of a survey that is done."""

from collections.abc import Mapping
from typing import Any

from thalweg.experiments._declared import Experiment
from thalweg.experiments._outcome import Outcome, sections_of, state_remarks
from thalweg.store import Run

BOUND_VIOLATED = 4


def outcome(experiment: Experiment, run: Run, asked: Mapping[str, Any]) -> Outcome:
    """Tell a run by its depth table, its phases and its coupling."""
    violated, key = run.bound_violations, run.survey.header.key if run.survey else ""
    return Outcome(
        {
            "run": str(run.path),
            "status": run.status,
            "bound_violations": violated,
            "coverage": [pair.model_dump() for pair in run.coverage],
            "phases": run.phases.collect().to_dicts(),
            "coupling": run.coupling.collect().to_dicts(),
        },
        run,
        sections_of(experiment, run, key),
        lines=[f"run: {run.path}    look at it: thalweg report {run.path}"],
        remarks=[*state_remarks(run), *_more_than_asked(run, asked)],
        exit_code=BOUND_VIOLATED if violated else 0,
    )


def _more_than_asked(run: Run, asked: Mapping[str, Any]) -> list[str]:
    options = asked.get("options")
    held = max((pair.rows_read for pair in run.coverage), default=0)
    if options is None or options.limit is None or held <= options.limit:
        return []
    return [f"the run already held {held} rows; all of them are in its tables, whatever --limit says."]
