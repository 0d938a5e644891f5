"""Run what a figure of the paper is drawn from, as far as it is missing, and draw it."""

import inspect
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from thalweg.errors import ThalwegError, UsageError
from thalweg.experiments import Experiment, experiments, file_names
from thalweg.figures import save_section
from thalweg.paths import path_here
from thalweg.recipes._recipe import Recipe, RecipeModel, Step, chosen, refuse_unknown
from thalweg.shown import Section, counted, listing
from thalweg.store import Findings, Run, is_run, open_run, slug

TASKS = ("mcq", "mteb")
"""Verbs with tasks in place of data."""
RUN = "{run}"
OWN_DATA = (*TASKS, "probe")
"""Verbs that read no prompts."""


@dataclass(frozen=True)
class Reproduced:
    """A figure that was drawn, or the reason why it was not.

    Attributes:
        figure: its number.
        shows: what it shows.
        run: the directory that it is drawn from.
        files: the pictures.
        substituted: what is not as in the paper, in words.
        reason: why nothing was drawn.
    """

    figure: int
    shows: str
    run: Path
    files: tuple[Path, ...] = ()
    substituted: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Instead:
    """What takes the place of what recipes say; None and nothing leave it.

    Attributes:
        model: of every figure.
        data: by verb, "" for all that read prompts; of several, the first is for the verb's first step, and so on.
        limit: rows of the data.
        options: by verb.
    """

    model: str | Path | None
    data: Mapping[str, tuple[Any, ...]]
    limit: int | None
    options: Mapping[str, Mapping[str, Any]]

    def models(self, recipe: Recipe) -> tuple[RecipeModel, ...]:
        """Those that are measured."""
        return recipe.models if self.model is None else (RecipeModel(name=str(self.model), billions=1),)

    def steps(self, recipe: Recipe) -> Iterator[tuple[Step, Any]]:
        """The steps, each with what takes the place of its data, None where nothing does."""
        times = Counter[str]()
        for step in recipe.steps:
            given = self.data.get(step.verb, () if step.verb in OWN_DATA else self.data.get("", ()))
            place = times[step.verb] if step.verb in self.data else 0
            times[step.verb] += 1
            if place < max(1, len(given)):
                yield step, given[place] if given else None

    def words(self, recipe: Recipe, given: Run | None) -> tuple[str, ...]:
        """What is not as in the paper, where a run that was given may hold some of it."""
        said = list[str]()
        if self.model is not None:
            said.append(f"{Path(self.model).name} in place of {listing(list(map(_short, recipe.models)))}")
        every = list(self.steps(recipe))
        asked = [(step, data) for step, data in every if not _holds(given, step.verb)]
        if given is not None and len(asked) < len(every):
            said.append(f"what the run holds ({_content(given)}) in place of {recipe.data}")
        steps = [(_data_of(recipe, step), data) for step, data in asked if not step.reads]
        said += [f"{_named(data)} in place of {published}" for published, data in steps if data is not None]
        if left := recipe.steps[len(every) :]:
            said.append(f"without {listing([_data_of(recipe, step) for step in left])}")
        if asked and self.limit is not None and self.limit != recipe.limit:
            rows = "all" if recipe.limit is None else f"{recipe.limit:,}"
            said.append(f"{counted(self.limit, 'row')} at most in place of {rows}")
        verbs = {step.verb for step, _ in asked}
        changed = ((verb, *each) for verb, options in self.options.items() if verb in verbs for each in options.items())
        said += [f"{verb} with {name.replace('_', ' ')} {value}" for verb, name, value in changed]
        return tuple(dict.fromkeys(said))


def reproduce(
    figure: str,
    *,
    model: str | Path | None = None,
    data: Sequence[str] | Mapping[str, Any] | None = None,
    limit: int | None = None,
    changes: Annotated[Sequence[str] | Mapping[str, Mapping[str, Any]] | None, Parameter(name="--set")] = None,
    out: str | Path = "runs/reproduced",
) -> list[Reproduced]:
    """Measure what a figure of the paper is drawn from, as far as it is missing, and draw it.

    A command that was stopped goes on. Each model has a run in OUT, which figures share; pictures are in OUT/figures.
    Where some figures cannot be drawn the others are, and the exit code is 3.

    On the command line:

        thalweg reproduce 4

        thalweg reproduce all --model SmolLM2-135M-Instruct.Q4_1.gguf --data gsm8k_train.jsonl --limit 16

        thalweg reproduce 8 --data lens=wikitext2_test.txt --data probe=arc.jsonl --data mcq=tasks/ --set probe.epochs=2

    Args:
        figure: a number (``thalweg list figures``), "all", or a recipe of your own, a .toml file.
        model: in place of the paper's: hub id, directory, GGUF file, or a run that was measured already.
        data: in place of the paper's: for every verb that reads prompts, or for one as VERB=DATA, again for the next
            of its data. For ``mcq`` a directory with tasks of lm-eval, for ``probe`` labelled data, for ``mteb``, in
            Python, a list of tasks. In Python also by verb, "" for all that read prompts, several as a tuple.
        limit: rows of the data, at most.
        changes: of options, as VERB.OPTION=VALUE, by their names in Python; in Python by verb.
        out: where runs and pictures are written.

    Returns:
        Each figure, with its files and what was substituted, or the reason why nothing was drawn.

    Raises:
        UsageError: there is no such figure, the recipe is none, or nothing could be drawn.

    Example:
        >>> [done] = reproduce("4", model="planted", data=["bundled"], limit=8)  # doctest: +SKIP
        >>> done.files  # doctest: +SKIP
    """
    instead = Instead(model, _by_verb(data), limit, _options(changes))
    place, every = path_here("--out", out), [*chosen(str(figure))]
    done = [one for recipe in every for one in _figure(recipe, instead, place, alone=len(every) == 1)]
    if all(one.reason for one in done):
        raise UsageError(f"nothing was drawn: {done[0].reason}")
    return done


def _by_verb(data: Sequence[str] | Mapping[str, Any] | None) -> Mapping[str, tuple[Any, ...]]:
    if isinstance(data, Mapping):
        return {verb: given if isinstance(given, tuple) else (given,) for verb, given in data.items()}
    verbs, found = {known.verb for known in experiments()}, dict[str, tuple[Any, ...]]()
    for each in [data] if isinstance(data, str) else data or ():
        verb, told, given = each.partition("=")
        known = verb in verbs and bool(told)
        found[verb if known else ""] = (*found.get(verb if known else "", ()), given if known else each)
    if len(found.get("", ())) > 1:
        raise UsageError(f"--data: expected one for all verbs; got {listing(found[''])}. Name a verb, as in lens=FILE.")
    return found


def _options(given: Sequence[str] | Mapping[str, Mapping[str, Any]] | None) -> Mapping[str, Mapping[str, Any]]:
    found = dict[str, dict[str, Any]]()
    if isinstance(given, Mapping):
        found = {verb: dict(options) for verb, options in given.items()}
    else:
        for each in given or ():
            name, told, value = each.partition("=")
            verb, dot, option = name.partition(".")
            if not (told and dot):
                raise UsageError(f"--set expects VERB.OPTION=VALUE, such as lens.steps=20; got {each!r:.60}.")
            found.setdefault(verb, {})[option] = _value(value)
    for verb, options in found.items():
        try:
            refuse_unknown(verb, options)
        except ValueError as error:
            raise UsageError(f"--set: {error}") from error
    return found


def _value(text: str) -> Any:
    """A number, a truth or a list as in a recipe; anything else is a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _figure(recipe: Recipe, instead: Instead, place: Path, *, alone: bool) -> Iterator[Reproduced]:
    models = instead.models(recipe)
    groups = [models] if recipe.together else [(model,) for model in models]
    ends = file_names(Path(model.name).name for model in models)
    for group in groups:
        given = open_run(group[0].name) if len(group) == 1 and is_run(group[0].name) else None
        path = place / run_name(recipe, group, instead) if given is None else given.path
        done = Reproduced(recipe.figure, recipe.shows, path, substituted=instead.words(recipe, given))
        try:
            found = dict[str, list[str]]()
            for step, data in instead.steps(recipe):
                if not _holds(given, step.verb):
                    made = _known(step.verb).function(**_asked(recipe, step, group, instead, path, data))
                    if isinstance(made, Findings):
                        found.setdefault(step.verb, []).append(made.header.key)
            end = f"_{ends[Path(group[0].name).name]}" if len(groups) > 1 else ""
            files = tuple(_draw(sections_of(recipe, open_run(path), found), place / "figures", recipe.figure, end))
            missing = None if files else "the run holds nothing of it"
            yield replace(done, files=files, reason=missing)
        except ThalwegError as error:
            if alone and len(groups) == 1:
                raise
            yield replace(done, reason=str(error))


def run_name(recipe: Recipe, models: Sequence[RecipeModel], instead: Instead) -> str:
    """Give the name of the run: figures of one model on the same data share it."""
    data = next(iter(instead.data.get("", ())), recipe.data)
    parts = [] if len(models) == 1 and not recipe.apart else [f"figure_{recipe.figure:02d}"]
    parts += [slug(Path(models[0].name).name)] if len(models) == 1 else []
    parts += [slug(_named(data)), *([] if recipe.max_length is None else [str(recipe.max_length)])]
    return "-".join(parts)


def _holds(given: Run | None, verb: str) -> bool:
    """Whether a run that was given holds what a verb measures, and is drawn as it is."""
    return given is not None and any(given.experiments(folder) for folder in _known(verb).tables)


def _content(run: Run) -> str:
    """Its data, each with the prompts that the model with the most has of them."""
    held = {
        data.name: [pair.prompts_kept for pair in run.coverage if pair.data == data.name] for data in run.header.data
    }
    return "; ".join(f"{name}, {counted(max(kept, default=0), 'prompt')}" for name, kept in held.items())


def _asked(
    recipe: Recipe, step: Step, models: Sequence[RecipeModel], instead: Instead, path: Path, data: Any
) -> dict[str, Any]:
    """What a verb is called with."""
    if step.reads:
        return {_first(step.verb): path, **step.options, **instead.options.get(step.verb, {})}
    own = models[0].options.get(step.verb, {}) if len(models) == 1 else {}
    options = {**step.options, **own, "out": path, "limit": instead.limit or step.limit or recipe.limit}
    options |= {"max_length": recipe.max_length, **_subject(step.verb, models, instead)}
    if step.verb in TASKS:
        options |= _tasks(step.verb, data)
    else:
        options["data"] = data or step.data or recipe.data
    options |= instead.options.get(step.verb, {})
    names = inspect.signature(_known(step.verb).function).parameters
    asked = {name: value for name, value in options.items() if value is not None and name in names}
    return {
        name: value.replace("{run}", str(path)) if isinstance(value, str) else value for name, value in asked.items()
    }


def _known(verb: str) -> Experiment:
    return next(known for known in experiments() if known.verb == verb)


def _first(verb: str) -> str:
    """The name of the verb's first parameter: a model, models or a run."""
    return next(iter(inspect.signature(_known(verb).function).parameters))


def _subject(verb: str, models: Sequence[RecipeModel], instead: Instead) -> dict[str, Any]:
    """The model, or models, by the name of the verb's first parameter; or checkpoints in a directory."""
    if verb == "checkpoints" and instead.model is not None and Path(instead.model).is_dir():
        return {"checkpoint_dir": instead.model, "revisions": None}
    names = [model.name for model in models]
    several = len(names) > 1 or verb == "checkpoints"
    at = {} if several or instead.model is not None else {"revision": models[0].revision}
    return {_first(verb): names if several else names[0], **at}


def _tasks(verb: str, data: Any) -> dict[str, Any]:
    """What takes the place of tasks: those in a directory for lm-eval, those given for MTEB."""
    if data is None or verb == "mteb":
        return {} if data is None else {"tasks": data}
    names = sorted(file.stem for file in Path(data).glob("*.yaml") if not file.stem.startswith("_"))
    if not names:
        raise UsageError(f"--data mcq={data}: expected a directory with tasks of lm-eval (NAME.yaml); got none.")
    return {"tasks": names, "include_path": str(data)}


def _draw(every: Iterator[Section], place: Path, figure: int, end: str) -> Iterator[Path]:
    place.mkdir(parents=True, exist_ok=True)
    sections = list(every)
    for number, section in enumerate(sections, start=1):
        more = "" if len(sections) == 1 else f"_{number}"
        yield from save_section(section, place, f"figure_{figure:02d}{end}{more}")


def sections_of(recipe: Recipe, run: Run, found: Mapping[str, Sequence[str]] | None = None) -> Iterator[Section]:
    """Give what a recipe draws of a run.

    Args:
        recipe: says what of it.
        run: that other recipes may share.
        found: by verb the keys of what this recipe's steps found, which alone is drawn; all that there is of others.
    """
    every = [
        section
        for known in experiments()
        for chapter in known.chapters(run)
        for section in chapter.sections
        if section.only != "terminal" and section.key in ("", *((found or {}).get(known.verb) or [section.key]))
    ]
    for drawing in recipe.draws:
        seen = set[str]()
        for section in every:
            panels = [panel for panel in section.panels if panel.title.startswith(drawing.panels or "")]
            named = section.name == drawing.figure or section.name.startswith(f"{drawing.figure}_")
            if named and panels and section.name not in seen:
                seen.add(section.name)
                yield replace(section, panels=panels)


def _short(model: RecipeModel) -> str:
    return model.name.rpartition("/")[2]


def _named(data: Any) -> str:
    return Path(data).name if isinstance(data, str | Path) else counted(len(data), "task")


def _data_of(recipe: Recipe, step: Step) -> str:
    if step.verb in TASKS:
        tasks = step.options.get("tasks")
        return listing([tasks] if isinstance(tasks, str) else tasks) if tasks else f"the tasks of {step.verb}"
    return step.data or recipe.data
