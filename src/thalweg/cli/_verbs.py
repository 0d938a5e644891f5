"""What verbs there are: every experiment, and the library functions that look at a run or check something."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thalweg.advice import Advice, advise
from thalweg.experiments import Outcome, experiments
from thalweg.figures import save_figures
from thalweg.listings import listing
from thalweg.report import write_report
from thalweg.shown import Table
from thalweg.store import open_run
from thalweg.verification import Verification, verify

GROUPS = ("Measure", "Intervene", "Downstream", "Look", "Check")


@dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
        name: as it is typed.
        function: what it calls.
        group: where the help lists it.
        told: what is told of a result, given what was asked for.
        as_json: whether that can be printed for a program.
    """

    name: str
    function: Callable[..., Any]
    group: str
    told: Callable[[Any, Mapping[str, Any]], Outcome]
    as_json: bool = True


def verbs() -> list[Verb]:
    """Every verb, in the order of the help."""
    measuring = [Verb(known.verb, known.function, known.group, known.told) for known in experiments()]
    return sorted([*measuring, *LOOKING], key=lambda verb: GROUPS.index(verb.group))


def _advised(advice: list[Advice], asked: Mapping[str, Any]) -> Outcome:
    texts = ["\n".join(_lines(about)) for about in advice]
    run = open_run(asked["run"])
    return Outcome([asdict(about) for about in advice], run, lines="\n\n".join(texts).splitlines())


def _lines(advice: Advice) -> list[str]:
    return [
        f"{advice.model}: {advice.blocks} blocks; {advice.phases}",
        *(f"  {answer.question}: {answer.text}." for answer in advice.answers),
        *(f"  {missing.question}: not measured. Run: {missing.command}" for missing in advice.unanswered),
    ]


def _drawn(paths: Sequence[Path], _: Mapping[str, Any]) -> Outcome:
    remarks = [] if paths else ["nothing to draw yet: the run has no finished prompts."]
    return Outcome(None, lines=[str(path) for path in paths], remarks=remarks)


def _written(path: Path, _: Mapping[str, Any]) -> Outcome:
    return Outcome(None, lines=[str(path)])


def _verified(verification: Verification, _: Mapping[str, Any]) -> Outcome:
    checks = verification.checks
    rows = [(check.capability, check.name, "yes" if check.passed else "NO", check.detail) for check in checks]
    table = Table(verification.about, ("capability", "check", "holds", "figures"), rows)
    return Outcome([vars(check) for check in checks], tables=[table], exit_code=0 if verification.measurable else 2)


def _listed(rows: list[dict[str, str]], _: Mapping[str, Any]) -> Outcome:
    return Outcome(rows, tables=[Table("", tuple(rows[0]), [tuple(row.values()) for row in rows])])


LOOKING = (
    Verb("advise", advise, "Downstream", _advised),
    Verb("figures", save_figures, "Look", _drawn, as_json=False),
    Verb("report", write_report, "Look", _written, as_json=False),
    Verb("verify", verify, "Check", _verified),
    Verb("list", listing, "Check", _listed),
)
