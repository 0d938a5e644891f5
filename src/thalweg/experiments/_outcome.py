"""What a command line tells of what an experiment returned: sections for a person, JSON for a program, remarks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.experiments._declared import Experiment
from thalweg.shown import Section, Table
from thalweg.store import Findings, Run, open_run


@dataclass(frozen=True)
class Outcome:
    """What is told of a result.

    Attributes:
        json: all of it, for a program.
        run: of which models; those that are test models are said to be.
        sections: what a person sees.
        tables: the same, of what is no run.
        lines: what a person reads below, such as where the run is.
        remarks: what has to be known before it is believed, beside the data.
        exit_code: 0 where nothing is wrong.
    """

    json: Any
    run: Run | None = None
    sections: Sequence[Section] = ()
    tables: Sequence[Table] = ()
    lines: Sequence[str] = ()
    remarks: Sequence[str] = ()
    exit_code: int = 0


def outcome(experiment: Experiment, findings: Findings, asked: Mapping[str, Any]) -> Outcome:  # noqa: ARG001 - others need what was asked
    """Tell findings by their sections and tables."""
    run = open_run(findings.run)
    sections = sections_of(experiment, run, findings.header.key)
    return Outcome(
        {
            "run": str(run.path),
            "status": findings.header.status,
            "settings": findings.header.settings,
            "coverage": [pair.model_dump() for pair in findings.header.coverage],
            "answers": sentences(sections),
            **{name: findings.table(name).collect().to_dicts() for name in experiment.answers},
        },
        run,
        sections,
        lines=[f"run: {run.path}    draw it: thalweg figures {run.path}"],
    )


def sections_of(experiment: Experiment, run: Run, key: str) -> list[Section]:
    """Give what a terminal shows of one setting of an experiment."""
    sections = (section for chapter in experiment.chapters(run) for section in chapter.sections)
    return [section for section in sections if section.key == key and section.only != "page"]


def sentences(sections: Sequence[Section]) -> list[str]:
    """Give what they say, one after the other."""
    return [sentence for section in sections for sentence in section.sentences]


def state_remarks(run: Run) -> list[str]:
    """Say which of a run's numbers are no ordinary ones."""
    said = {
        "prompts are too short for a sink rate: a uniform head passes tau.": run.short_prompts,
        "states hold NaN or Inf; their rows carry NaN.": run.nonfinite_states,
        "states violate a bound of the theory: please report it.": run.bound_violations,
    }
    return [f"{count} {what}" for what, count in said.items() if count]
