"""What is taken over from a run: one that is named in place of a model, or one that an experiment joins.

Only what is left at its default is: what is asked for otherwise is compared with the run when it is opened. Where a
model runs, and whether its own code or pickled weights may, is said anew each time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

from thalweg.errors import UsageError
from thalweg.experiments._options import BUNDLED_DATA, Data, PassOptions, SurveyOptions
from thalweg.options import LoadOptions
from thalweg.paths import path_here
from thalweg.store import ModelFacts, Run, is_run, open_run

DataOf = Literal["run", "own", "none"]
_DATA = {field.name for field in fields(SurveyOptions)} - {field.name for field in fields(PassOptions)} - {"engine"}
"""Options that say which prompts there are, and against what they are measured."""
_PLAIN = SurveyOptions()


@dataclass(frozen=True)
class Asked:
    """What is to be measured with what is taken over: models, each with how it is loaded, data, options."""

    models: Sequence[tuple[str, LoadOptions]]
    data: Data
    path: Path
    options: SurveyOptions


def continued(
    names: Sequence[str], data: Data | None, out: str | Path | None, options: SurveyOptions, data_of: DataOf
) -> Asked:
    """Complete what is asked for by what the run says that is named, or joined by ``out``.

    Of a run that is joined, how each model is loaded is taken over, and where no data are asked for, its data and how
    they are read; of one that stands for its models these too, unless other data are asked for where they need not be
    the run's ("own", "none").

    Raises:
        UsageError: a run is named beside models or another directory, or it does not have the revision.
    """
    named = next((name for name in names if is_run(name)), None)
    path = path_here("--out", out) if out is not None else Path(named or Path("runs") / Path(names[0]).resolve().name)
    if named is not None:
        _refuse_contradictions(named, names, path)
    if not is_run(path):
        plain = BUNDLED_DATA if data is None else data
        return Asked([(name, options.loading) for name in names], plain, path, options)
    run = open_run(path)
    if named is None:
        known = [_known(run, name, options.revision) for name in names]
    else:
        known = _models(run, options.revision)
        names = [facts.name for facts in known]
    models = [
        (name, options.loading if facts is None else _loading(options, facts))
        for name, facts in zip(names, known, strict=True)
    ]
    bos = next((facts.bos for facts in known if facts is not None), options.bos)
    options = replace(options, bos=bos if options.bos == _PLAIN.bos else options.bos)
    stands = {"run": named is not None or data is None, "own": named is not None and data is None, "none": False}
    if run.header.data and stands[data_of]:
        options = replace(options, **_reading(run, options))
        data = _data(run) if data is None else data
    return Asked(models, BUNDLED_DATA if data is None else data, path, options)


def _refuse_contradictions(run: str, names: Sequence[str], path: Path) -> None:
    if len(names) > 1:
        raise UsageError(f"{run} is a run and stands for its models; got {', '.join(names)}. Name it alone.")
    if path.resolve() != Path(run).resolve():
        raise UsageError(
            f"{run} is a run, which is joined; got --out {path} beside it. Leave --out out, or name the model instead."
        )


def _models(run: Run, revision: str | None) -> list[ModelFacts]:
    models = [facts for facts in run.header.models if revision in (None, facts.revision)]
    if not models:
        there = ", ".join(f"{facts.name} at {facts.revision}" for facts in run.header.models)
        raise UsageError(
            f"--revision {revision}: {run.path} holds {there}. Leave it out, or name the model and another --out."
        )
    return models


def _known(run: Run, name: str, revision: str | None) -> ModelFacts | None:
    """The one model of this name, if there is one."""
    known = [facts for facts in run.header.models if facts.name == name and revision in (None, facts.revision)]
    return known[0] if len(known) == 1 else None


def _loading(options: SurveyOptions, facts: ModelFacts) -> LoadOptions:
    dtype = facts.dtype if options.dtype == _PLAIN.dtype else options.dtype
    return replace(options.loading, revision=options.revision or facts.asked_revision, dtype=dtype)


def with_dtype_of(run: Run, options: SurveyOptions) -> SurveyOptions:
    """The options with the dtype of all that a run holds, where none is asked for and it has one."""
    dtypes = {facts.dtype for facts in run.header.models}
    if options.dtype != _PLAIN.dtype or len(dtypes) != 1:
        return options
    return replace(options, dtype=dtypes.pop())


def _data(run: Run) -> tuple[str, ...]:
    for facts in run.header.data:
        if facts.given is None:
            raise UsageError(f"{run.path} was measured on {facts.name}, which was in memory. Pass it again as data.")
    return tuple(str(facts.given) for facts in run.header.data)


def _reading(run: Run, options: SurveyOptions) -> dict[str, object]:
    """By option what the run says, of those that are left at their defaults."""
    thresholds = dict(run.header.thresholds)
    given = thresholds.pop("sink_position") or run.session.resolved.get("sink_position")  # 0 stands for none given too
    said = {**run.session.resolved, **dict(run.header), **thresholds, "sink_position": given}
    return {name: said[name] for name in _DATA & said.keys() if getattr(options, name) == getattr(_PLAIN, name)}
