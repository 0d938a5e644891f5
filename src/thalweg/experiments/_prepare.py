"""What every experiment begins with: models and data are named and identified, before anything is loaded.

With them goes what a run says about itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thalweg.capture import (
    IdentifiedModel,
    Subject,
    given_name,
    identify_given,
    identify_model,
    identity_of_tokenizer,
    positions_of,
)
from thalweg.errors import UsageError
from thalweg.experiments._continued import DataOf, continued
from thalweg.experiments._options import (
    BUNDLED_MODEL,
    Data,
    Models,
    PassOptions,
    SurveyOptions,
    is_name,
    survey_options,
)
from thalweg.experiments._session import command_line, hardware, versions, without_secrets
from thalweg.options import LoadOptions
from thalweg.paths import is_directory
from thalweg.prompts import Source, Tokenization, open_source, tokenization
from thalweg.ranks import own_directory
from thalweg.reference import bundled_directory, how_planted
from thalweg.store import DataFacts, FindingsWriter, ModelFacts, RunHeader, Session, Tables, Thresholds, open_findings


@dataclass(frozen=True)
class Prepared:
    """Models, data and the header of a run; no weights yet.

    ``tokenizations`` say how each model's tokenizer makes prompts, ``header`` is what run.json would say, ``data_of``
    whether the data are those of the run's survey, or the experiment's own.
    """

    models: list[IdentifiedModel]
    tokenizations: list[Tokenization]
    sources: list[Source]
    header: RunHeader
    session: Session
    path: Path
    options: SurveyOptions
    data_of: DataOf = "run"

    @property
    def model(self) -> IdentifiedModel:
        """The first model, or the only one."""
        return self.models[0]

    @property
    def key(self) -> dict[str, str]:
        """What names that model in every table."""
        return {"model": self.model.name, "revision": self.model.revision}

    def of_one_model(self, experiment: str) -> "Prepared":
        """The same, for an experiment that takes one model; several are refused."""
        if len(self.models) != 1:
            names = ", ".join(f"{model.name} at {model.revision}" for model in self.models)
            raise UsageError(
                f"{experiment} takes one model at a time; got {names}. Name one of them, with --revision and --out."
            )
        return self

    def opened(self, experiment: str, settings: Mapping[str, Any], tables: Tables) -> FindingsWriter:
        """Open an experiment of the run for writing; one with data of its own joins any run of its model."""
        joins = "part" if self.data_of == "run" else "models"
        return open_findings(self.path, self.header, experiment, settings, tables, session=self.session, joins=joins)

    @property
    def by_hand(self) -> dict[str, int]:
        """The sink position as a setting of an intervention, where it is given."""
        position = self.options.sink_position
        return {} if position is None else {"sink_position": position}

    def of_each_source(self) -> Iterator["Prepared"]:
        """One data set after the other."""
        return (replace(self, sources=[source]) for source in self.sources)


def prepare(
    models: Models = BUNDLED_MODEL,
    data: Data | None = None,
    *,
    data_of: DataOf = "run",
    packages: Sequence[str] = (),
    out: str | Path | None = None,
    options: PassOptions | None = None,
) -> Prepared:
    """Name and identify models and data; a run stands for its models, and for its data.

    The data are those of the run, or the experiment's own ("own"), or read by the experiment itself ("none"). The
    versions of ``packages`` are written down, beside those that all numbers depend on.
    """
    options = survey_options(options)
    asked = continued(named(models), data, out, options, data_of)
    sources = [] if data_of == "none" else open_sources(asked.data, asked.options)
    found = identified(models, asked.models, options)
    path = own_directory(asked.path)
    return replace(prepared_from(found, sources, path, asked.options, packages), data_of=data_of)


def named(models: Models) -> list[str]:
    """The names of models as a run knows them."""
    names = [_name(model) if is_name(model) else given_name(model) for model in _each("models", models)]
    _refuse_repeats("MODEL", names)
    return names


def identified(
    models: Models, names: Sequence[tuple[str, LoadOptions]], options: SurveyOptions
) -> list[IdentifiedModel]:
    """Models by name, each with how it is loaded, and those among them that are in memory."""
    given = {given_name(model): model for model in _each("models", models) if not is_name(model)}
    if options.tokenizer is not None and not given:
        raise UsageError(f"tokenizer: expected beside a model that is loaded; {names[0][0]} has its own. Leave it out.")
    return [
        identify_given(given[name], options.tokenizer, options.loading)
        if name in given
        else identify_model(name, how, directory=bundled_directory(name))
        for name, how in names
    ]


def open_sources(data: Data, options: SurveyOptions) -> list[Source]:
    """The data sets, found and opened: one name, a tuple of them, or what is in memory, by its name if it has one."""
    how = {"text_field": options.text_field, "whole_file": options.whole_file, "chat": options.chat}
    if isinstance(data, Mapping):
        sources = [open_source(held, name=str(name), **how) for name, held in data.items()]
    elif isinstance(data, str | Path | tuple):
        names = [str(name) if isinstance(name, Path) else name for name in _each("data", data)]
        sources = [replace(open_source(name, **how), given=name if is_name(name) else None) for name in names]
    else:
        sources = [open_source(data, **how)]
    _refuse_repeats("--data", [source.name for source in sources])
    if options.sample is None:
        return sources
    return [source.sampled(options.sample, seed=options.seed, limit=options.limit) for source in sources]


def prepared_from(
    models: Sequence[IdentifiedModel],
    sources: Sequence[Source],
    path: Path,
    options: SurveyOptions,
    packages: Sequence[str] = (),
) -> Prepared:
    """Models that are identified, with their data and a header."""
    tokenizations = [
        tokenization(
            model.tokenizer, bos=options.bos, max_length=options.max_length, context=model.context, chat=options.chat
        )
        for model in models
    ]
    header = RunHeader(
        models=tuple(_model_facts(model, how) for model, how in zip(models, tokenizations, strict=True)),
        data=tuple(
            DataFacts(
                name=source.name, hash=source.hash, template=source.template, given=source.given, sample=source.sample
            )
            for source in sources
        ),
        max_length=options.max_length,
        thresholds=Thresholds(
            tau=options.tau, massive_ratio=options.massive_ratio, sink_position=options.sink_position or 0
        ),
        seed=options.seed,
        variants=options.variants,
        keep_text=options.keep_text,
    )
    resolved = {name: _written_down(value) for name, value in vars(options).items()}
    resolved["tokenizer"] = type(options.tokenizer).__name__ if options.tokenizer is not None else None
    session = Session(command=command_line(), resolved=resolved, versions=versions(*packages), hardware=hardware())
    return Prepared(list(models), tokenizations, list(sources), header, session, path, options)


def _written_down(value: Any) -> Any:
    if isinstance(value, str):
        return without_secrets(value)
    return dict(value) if isinstance(value, Mapping) else value


def _each(what: str, given: Any) -> list[Any]:
    each = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not each:
        raise UsageError(f"{what} must name at least one; got none.")
    return each


def _name(model: str | Path) -> str:
    return str(Path(model)) if is_directory(model) else str(model)


def _refuse_repeats(option: str, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(f"{option} {repeated[0]} is given twice; name each once. Two files need two names.")


def _model_facts(model: IdentifiedModel, how: Tokenization) -> ModelFacts:
    """What is known of a model before its weights are loaded."""
    config = model.config.get_text_config(decoder=True)
    return ModelFacts(
        name=model.name,
        revision=model.revision,
        commit=model.commit,
        weights=model.weights,
        files=model.files,
        configuration=model.configuration,
        tokenizer=identity_of_tokenizer(model.tokenizer),
        dtype=model.dtype,
        quantization=model.quantization,
        adapter=f"{model.adapter[0].kind} on {model.adapter[1].name}" if model.adapter else None,
        blocks=config.num_hidden_layers,
        heads=config.num_attention_heads,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        bos=how.bos.policy,
        bos_token=how.bos.token,
        chat_template=how.template_hash,
        planted=how_planted(model.name),
        given=None if model.given is None else type(model.given).__name__,
    )


def learned_facts(facts: ModelFacts, subject: Subject, blocks: tuple[int, ...]) -> ModelFacts:
    """The same with what only the loaded model tells; ``blocks`` are those with softmax attention."""
    windows = tuple(block.window for block in subject.parts.blocks)
    return facts.model_copy(
        update={
            "attention": subject.path,
            "positions": positions_of(subject.model).kind,
            "parameters": subject.model.num_parameters(),
            "softmax_blocks": None if len(blocks) == facts.blocks else blocks,
            "windows": windows if any(windows) else None,
        }
    )
