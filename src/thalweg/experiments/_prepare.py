"""What every experiment begins with: models and data are named and identified, before anything is loaded."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg.capture import IdentifiedModel, identify_model
from thalweg.errors import UsageError
from thalweg.experiments._facts import data_facts, hardware, model_facts, versions
from thalweg.experiments._options import BUNDLED_DATA, BUNDLED_MODEL, Names, SurveyOptions
from thalweg.prompts import Source, Tokenization, open_source, tokenization
from thalweg.reference import bundled_directory
from thalweg.store import RunHeader, Session, Thresholds


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


def prepare(
    models: Names = BUNDLED_MODEL,
    data: Names = BUNDLED_DATA,
    *,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
) -> Prepared:
    """Name and identify models and data.

    Raises:
        UsageError: a model, a data set or an option cannot be used; the message says what to do.
    """
    options = SurveyOptions() if options is None else options
    if not isinstance(options, SurveyOptions):
        raise UsageError(f"options must be thalweg.SurveyOptions(limit=..., ...); got {type(options).__name__}.")
    names, sources = named(models), open_sources(data, options)
    identified = [identify_model(name, options.loading, directory=bundled_directory(name)) for name in names]
    path = Path(out) if out is not None else Path("runs") / Path(names[0]).resolve().name
    return prepared_from(identified, sources, path, options)


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
    sources = [open_source(one, text_field=options.text_field, whole_file=options.whole_file) for one in wanted]
    _refuse_repeats("--data", [source.name for source in sources])
    return sources


def prepared_from(
    models: Sequence[IdentifiedModel], sources: Sequence[Source], path: Path, options: SurveyOptions
) -> Prepared:
    """Models that are identified, with their data and a header."""
    tokenizations = [
        tokenization(model.tokenizer, bos=options.bos, max_length=options.max_length, context=model.context)
        for model in models
    ]
    header = _header(models, tokenizations, sources, options)
    return Prepared(list(models), tokenizations, list(sources), header, session(options), path, options)


def session(options: SurveyOptions) -> Session:
    """How this command runs."""
    return Session(command=command(), resolved=_resolved(options), versions=versions(), hardware=hardware())


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
    names = [str(given)] if isinstance(given, str | Path) else [str(one) for one in given]
    if not names:
        raise UsageError(f"{what} must name at least one; got none.")
    return names


def command() -> tuple[str, ...]:
    """The command line, where this is one."""
    program = Path(sys.argv[0])
    ours = program.name == "thalweg" or program.parts[-2:] == ("thalweg", "__main__.py")
    return ("thalweg", *sys.argv[1:]) if ours else ()


def _refuse_repeats(option: str, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(f"{option} {repeated[0]} is given twice; name each once. Two files need two names.")
