"""What an experiment is, and what the command line tells of what it returned."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from shlex import quote
from typing import Any, Literal

from thalweg.errors import RunError, ThalwegError
from thalweg.shown import Card, Chapter, Section, Table, amount, counted, listing
from thalweg.store import Coverage, Findings, ModelFacts, Run, RunHeader, Tables, open_run

PARTLY = 3
"""Some of it is missing, and named."""
Group = Literal["Measure", "Intervene", "Downstream"]


@contextmanager
def reading(run: Run, what: str) -> Generator[None]:
    """Say in a line that a run's tables and headers do not fit together, whatever they then run into."""
    try:
        yield
    except (ThalwegError, MemoryError):
        raise
    except Exception as error:
        got = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RunError(
            f"{run.path}: {what} cannot be shown: its tables and headers do not fit together ({got}). Measure it "
            "again, with another --out; if nobody changed the run, please report it."
        ) from error


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        name: of its folder in a run.
        tables: what it writes, by folder: its own, and that of what it makes on the way.
        function: its signature is the Python call and the command line, its docstring the help of both; the verb is
            called as it is.
        group: where the help lists it.
        answers: the tables that ``--json`` prints.
        view: the module that shows it, by name, since a view is needed only when something is shown. It has a function
            ``chapters(run)`` that yields chapters, none where the run holds nothing of it, and may have a function
            ``cards(run)`` that yields what stands on top of the page.
        outcome: the module that tells what came of it on the command line, by name, where that is no findings. It has a
            function ``outcome(experiment, result, asked)``.
    """

    name: str
    tables: Mapping[str, Tables]
    function: Callable[..., Any]
    group: Group
    answers: tuple[str, ...]
    view: str
    outcome: str = "thalweg.experiments._declared"

    @property
    def verb(self) -> str:
        """What it is called on the command line and in Python."""
        return self.function.__name__

    def chapters(self, run: Run) -> Iterator[Chapter]:
        """What is shown of it; chapters without a section are left out."""
        with reading(run, self.name):
            yield from (chapter for chapter in import_module(self.view).chapters(run) if chapter.sections)

    def cards(self, run: Run) -> Iterator[Card]:
        """Its answers on top of the page."""
        cards: Callable[[Run], Iterator[Card]] | None = getattr(import_module(self.view), "cards", None)
        with reading(run, self.name):
            yield from () if cards is None else cards(run)

    def told(self, result: Any, asked: Mapping[str, Any]) -> Any:
        """What the command line tells of a result, an `Outcome`, given what was asked for; 3 where rows wait."""
        outcome: Outcome = import_module(self.outcome).outcome(self, result, asked)
        latest = [found[-1] for folder in self.tables if outcome.run and (found := outcome.run.experiments(folder))]
        waiting = any(coverage.waiting for findings in latest for coverage in findings.header.coverage)
        return replace(outcome, exit_code=outcome.exit_code or PARTLY) if waiting else outcome


@dataclass(frozen=True)
class Outcome:
    """What is told of a result.

    Attributes:
        json: all of it, for a program.
        run: of which models; those that are test models are said to be.
        sections: what a person sees.
        tables: the same, of what is no run.
        lines: what a person reads below, such as where the run is.
        text: for a file or another program, which gets it as it is; a terminal is given no orders.
        remarks: what has to be known before it is believed, beside the data.
        exit_code: 0 where nothing is wrong.
    """

    json: Any
    run: Run | None = None
    sections: Sequence[Section] = ()
    tables: Sequence[Table] = ()
    lines: Sequence[str] = ()
    text: str = ""
    remarks: Sequence[str] = ()
    exit_code: int = 0


def outcome(experiment: Experiment, findings: Findings, asked: Mapping[str, Any]) -> Outcome:  # noqa: ARG001 - others need what was asked
    """Tell findings by their sections and tables."""
    run, coverage = open_run(findings.run), findings.header.coverage
    sections = sections_of(experiment, run, findings.header.key)
    return Outcome(
        {
            "run": str(run.path),
            "status": findings.header.status,
            "settings": findings.header.settings,
            "coverage": [pair.model_dump() for pair in coverage],
            "answers": sentences(sections),
            **{name: findings.table(name).collect().to_dicts() for name in experiment.answers},
        },
        run,
        sections,
        lines=[f"run: {run.path}    draw it: thalweg figures {quote(str(run.path))}"],
        remarks=coverage_remarks(run.header, coverage),
    )


def sections_of(experiment: Experiment, run: Run, key: str) -> list[Section]:
    """Give what a terminal shows of one setting of an experiment."""
    sections = (section for chapter in experiment.chapters(run) for section in chapter.sections)
    return [section for section in sections if section.key == key and section.only != "page"]


def sentences(sections: Sequence[Section]) -> list[str]:
    """Give what they say, one after the other, and of what where there are several that do not say so themselves."""
    titles = {section.title for section in sections if section.sentences and section.title}
    several = len(titles) > 1
    return [
        f"{section.title}: {sentence}" if several and section.title not in sentence else sentence
        for section in sections
        for sentence in section.sentences
    ]


def state_remarks(run: Run) -> list[str]:
    """Say which of a run's numbers are no ordinary ones."""
    said = {
        "prompts are too short for a sink rate: a uniform head passes tau.": run.short_prompts,
        "states hold NaN or Inf; their rows carry NaN.": run.nonfinite_states,
        "states violate a bound of the theory: please report it.": run.bound_violations,
    }
    by_name = dict[str, list[ModelFacts]]()
    for model in run.header.models:
        by_name.setdefault(model.name, []).append(model)
    noise = [f"{name} {sentence}" for name, models in by_name.items() if (sentence := noise_sentence(models))]
    counts = (f"{count} {what}" for what, count in said.items() if count)
    return [*coverage_remarks(run.header, run.coverage), *counts, *noise]


def coverage_remarks(header: RunHeader, coverage: Iterable[Coverage]) -> list[str]:
    """Say what was drawn of the data, which rows gave no prompt, and which prompts begin with the BOS token twice."""
    samples = {data.name: data.sample for data in header.data if data.sample is not None}
    said = [f"{name}: a random sample, {sample}." for name, sample in samples.items()]
    for pair in coverage:
        without = {reason: count for reason, count in pair.skipped.items() if reason not in pair.waiting}
        if skipped := sum(without.values()):
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(without.items()))
            said.append(f"{skipped:,} of {counted(pair.rows_read, 'row')} of {pair.data} gave no prompt: {reasons}.")
        said += [bos_remark(header, pair)] if pair.bos_twice else []
    return list(dict.fromkeys(said))  # rows give no prompt to one model as to another


def bos_remark(header: RunHeader, pair: Coverage) -> str:
    """Say how many prompts begin with the BOS token twice, and what to do."""
    token = header.by_name[pair.model, pair.revision].bos_token
    return (
        f"{pair.bos_twice:,} of {counted(pair.prompts_kept, 'prompt')} of {pair.data} begin with {token} twice: the "
        "text has one already. Measure with --bos never, which leaves the text's own, and another --out."
    )


_REPEATING = {
    "entropy": (100, "% in entropy"),
    "norms": (100, "% in norms"),
    "mixing": (100, "% in a block's mixing"),
    "sink_score": (1, "in a head's sink score"),
}


def noise_sentence(models: Sequence[ModelFacts]) -> str:
    """Say how far numbers of half precision repeat, the largest differences of all; empty where none were measured."""
    known, said = [(model.dtype, model.noise) for model in models if model.noise], list[str]()
    for name, (scale, words) in _REPEATING.items():
        if values := [value for _, noise in known if (value := getattr(noise, name)) is not None]:
            said.append(f"{amount(scale * max(values))} {words}")
    if not said:
        return ""
    dtype, noise = known[0]
    tried = counted(noise.prompts, "prompt")
    return f"in {dtype}: a prompt alone and the same in a batch differ by up to {listing(said)} ({tried} tried)."
