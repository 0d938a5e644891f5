"""What every experiment begins with: models and data are named and identified, before anything is loaded."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thalweg.capture import IdentifiedModel, identify_model
from thalweg.errors import UsageError
from thalweg.experiments._facts import data_facts, hardware, model_facts, versions
from thalweg.experiments._options import BUNDLED_DATA, BUNDLED_MODEL, Names, PassOptions, SurveyOptions, survey_options
from thalweg.prompts import Source, Tokenization, open_source, tokenization
from thalweg.reference import bundled_directory
from thalweg.store import FindingsWriter, RunHeader, Session, Tables, Thresholds, open_findings


@dataclass(frozen=True)
class Prepared:
    """Models, data and the header of a run; no weights yet.

    Attributes:
        models: identified, in the order given.
        tokenizations: how each model's tokenizer makes prompts.
        sources: the data sets.
        header: what run.json would say.
        session: how this command runs.
        path: the run's directory.
        options: as given.
    """

    models: list[IdentifiedModel]
    tokenizations: list[Tokenization]
    sources: list[Source]
    header: RunHeader
    session: Session
    path: Path
    options: SurveyOptions

    @property
    def model(self) -> IdentifiedModel:
        """The first model, or the only one."""
        return self.models[0]

    @property
    def key(self) -> dict[str, str]:
        """What names that model in every table."""
        return {"model": self.model.name, "revision": self.model.revision}

    def of_one_model(self, experiment: str) -> "Prepared":
        """The same, for an experiment that takes one model.

        Raises:
            UsageError: there are several.
        """
        if len(self.models) != 1:
            raise UsageError(f"{experiment} takes one model at a time; got {len(self.models)}.")
        return self

    def opened(self, experiment: str, settings: Mapping[str, Any], tables: Tables) -> FindingsWriter:
        """Open an experiment of the run for writing; without sources it has data of its own, and models alone join.

        Raises:
            RunError: the run belongs to others, cannot be written, or is being written.
        """
        joins = "part" if self.sources else "models"
        return open_findings(self.path, self.header, experiment, settings, tables, session=self.session, joins=joins)

    def of_each_source(self) -> Iterator["Prepared"]:
        """One data set after the other."""
        return (replace(self, sources=[source]) for source in self.sources)


def prepare(
    models: Names = BUNDLED_MODEL,
    data: Names = BUNDLED_DATA,
    *,
    own_data: bool = False,
    packages: Sequence[str] = (),
    out: str | Path | None = None,
    options: PassOptions | None = None,
) -> Prepared:
    """Name and identify models and data.

    Args:
        models: as for a survey.
        data: as for a survey.
        own_data: the experiment reads its data itself, and ``data`` is left alone.
        packages: whose versions the experiment's numbers depend on, beside those that all depend on.
        out: as for a survey.
        options: as for a survey.

    Raises:
        UsageError: a model, a data set or an option cannot be used; the message says what to do.
    """
    options = survey_options(options)
    names, sources = named(models), [] if own_data else open_sources(data, options)
    identified = [identify_model(name, options.loading, directory=bundled_directory(name)) for name in names]
    path = Path(out) if out is not None else Path("runs") / Path(names[0]).resolve().name
    return prepared_from(identified, sources, path, options, packages)


def named(models: Names) -> list[str]:
    """The names of models as a run knows them.

    Raises:
        UsageError: there is none, or one is given twice.
    """
    names = [str(Path(name)) if Path(name).is_dir() else name for name in _names("models", models)]
    _refuse_repeats("MODEL", names)
    return names


def open_sources(data: Names, options: SurveyOptions) -> list[Source]:
    """The data sets, found and opened.

    Raises:
        UsageError: one cannot be read, or is given twice.
    """
    wanted = _names("data", data)
    sources = [open_source(name, text_field=options.text_field, whole_file=options.whole_file) for name in wanted]
    _refuse_repeats("--data", [source.name for source in sources])
    return sources


def prepared_from(
    models: Sequence[IdentifiedModel],
    sources: Sequence[Source],
    path: Path,
    options: SurveyOptions,
    packages: Sequence[str] = (),
) -> Prepared:
    """Models that are identified, with their data and a header."""
    tokenizations = [
        tokenization(model.tokenizer, bos=options.bos, max_length=options.max_length, context=model.context)
        for model in models
    ]
    header = _header(models, tokenizations, sources, options)
    return Prepared(list(models), tokenizations, list(sources), header, session(options, packages), path, options)


def session(options: SurveyOptions, packages: Sequence[str] = ()) -> Session:
    """How this command runs; ``packages`` are those that its numbers depend on, beside those that all depend on."""
    used = versions(*packages)
    return Session(command=command_line(), resolved=_resolved(options), versions=used, hardware=hardware())


def _header(
    models: Sequence[IdentifiedModel],
    tokenizations: Sequence[Tokenization],
    sources: Sequence[Source],
    options: SurveyOptions,
) -> RunHeader:
    return RunHeader(
        models=tuple(model_facts(model, how) for model, how in zip(models, tokenizations, strict=True)),
        data=tuple(data_facts(source) for source in sources),
        max_length=options.max_length,
        thresholds=Thresholds(
            tau=options.tau, massive_ratio=options.massive_ratio, sink_position=options.sink_position
        ),
        seed=options.seed,
        variants=options.variants,
        keep_text=options.keep_text,
    )


def _resolved(options: SurveyOptions) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(options).items()}


def _names(what: str, given: Names) -> list[str]:
    names = [str(given)] if isinstance(given, str | Path) else [str(name) for name in given]
    if not names:
        raise UsageError(f"{what} must name at least one; got none.")
    return names


def command_line() -> tuple[str, ...]:
    """The command line, where this is one."""
    program = Path(sys.argv[0])
    ours = program.name == "thalweg" or program.parts[-2:] == ("thalweg", "__main__.py")
    return ("thalweg", *sys.argv[1:]) if ours else ()


def _refuse_repeats(option: str, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(f"{option} {repeated[0]} is given twice; name each once. Two files need two names.")
