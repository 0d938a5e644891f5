"""Which checkpoints are there: revisions on the hub, directories of a training, or models of several sizes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from thalweg.averages import training_order, training_step
from thalweg.capture import IdentifiedModel, identify_model, identity_of_tokenizer, weights_in_directory
from thalweg.errors import ModelError, UsageError
from thalweg.experiments._options import Models, SurveyOptions, is_name
from thalweg.experiments._prepare import identified, named
from thalweg.paths import directory_here, is_directory
from thalweg.reference import bundled_directory
from thalweg.store import RunHeader

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
_Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Listed:
    """What can be measured, in the order of training, and by revision or directory why the rest is left out.

    ``directory`` is what the run's is called by default.
    """

    models: list[IdentifiedModel]
    missing: dict[str, str]
    directory: str


def list_checkpoints(
    models: Models | None, revisions: Sequence[str] | None, directory: str | Path | None, options: SurveyOptions
) -> Listed:
    """Find and identify what is asked for; weights are not read."""
    if revisions is not None and directory is not None:
        raise UsageError("--revisions are on the hub and --checkpoint-dir is here; pass one of them.")
    if options.revision is not None and (revisions is not None or directory is not None):
        raise UsageError("--revision goes with models of several sizes; name checkpoints with --revisions.")
    names = [] if models is None else named(models)
    each = models if isinstance(models, Sequence) and not is_name(models) else [models]
    if (revisions is not None or directory is not None) and names and not all(is_name(model) for model in each):
        raise UsageError(f"{names[0]} is loaded, and so is no checkpoint beside it; pass its name, or several models.")
    if revisions is not None:
        listed = _on_the_hub(names, revisions, options)
    elif directory is not None:
        listed = _in_a_directory(names, directory_here("--checkpoint-dir", directory), options)
    else:
        return _sizes(models or (), names, options)
    _refuse_other_shapes([(model.revision, _shape(model)) for model in listed.models])
    return listed


def refuse_a_run_of_others(header: RunHeader, models: Sequence[IdentifiedModel]) -> None:
    """Checkpoints that join a run have the shape and the tokenizer of those that it holds of the same model."""
    for name in {model.name for model in models}:
        joining = [model for model in models if model.name == name]
        held = {f"{facts.revision}, which the run holds,": facts for facts in header.models if facts.name == name}
        shapes = [(it, (facts.blocks, facts.heads, facts.width)) for it, facts in held.items() if facts.width]
        _refuse_other_shapes([*shapes, *((model.revision, _shape(model)) for model in joining)])
        tokenizers = {it: facts.tokenizer for it, facts in held.items() if facts.tokenizer}
        _refuse_other_tokenizers({**tokenizers, **_tokenizers({model.revision: model for model in joining})})


def _on_the_hub(names: list[str], revisions: Sequence[str], options: SurveyOptions) -> Listed:
    if len(names) != 1:
        raise UsageError(f"--revisions are those of one MODEL on the hub; got {len(names)} models.")
    [name] = names
    if bundled_directory(name) is not None or is_directory(name):
        raise UsageError(f"{name} is a directory, which has no revisions; pass --checkpoint-dir with its checkpoints.")
    wanted = [revision.strip() for revision in revisions]
    if not all(wanted) or not wanted:
        raise UsageError("--revisions must name at least one, as step1,step1000; got an empty name.")
    repeated = sorted({revision for revision in wanted if wanted.count(revision) > 1})
    if repeated:
        raise UsageError(f"--revisions {repeated[0]} is given twice; name each once.")
    ways = {
        revision: partial(identify_model, name, replace(options.loading, revision=revision), fetch=False)
        for revision in training_order(wanted)
    }
    return _identified(ways, {}, f"{Path(name).name}-checkpoints")


def _in_a_directory(names: list[str], directory: Path, options: SurveyOptions) -> Listed:
    if len(names) > 1:
        raise UsageError(f"--checkpoint-dir holds checkpoints of one MODEL; got {len(names)} models.")
    name = names[0] if names else directory.resolve().name
    numbered, missing = _numbered(directory)
    beside = directory if _has_tokenizer(directory) else None
    if numbered and beside is None and not any(map(_has_tokenizer, numbered.values())):
        raise UsageError(
            f"{directory} has no tokenizer: expected tokenizer.json, or its kin, there or beside each checkpoint's "
            "config.json. Copy it from the model that the training began with."
        )
    ways = {
        f"step{step}": partial(
            identify_model,
            name,
            replace(options.loading, revision=f"step{step}"),
            directory=path,
            tokenizer_directory=None if _has_tokenizer(path) else beside,
        )
        for step, path in sorted(numbered.items())
    }
    if not ways:
        said = "".join(f" {name}: {why}." for name, why in missing.items())
        raise UsageError(
            f"{directory} holds no checkpoint: expected directories such as checkpoint-100 or step100, each with "
            f"config.json and weights.{said}"
        )
    return _identified(ways, missing, f"{Path(name).name}-checkpoints")


def _numbered(directory: Path) -> tuple[dict[int, Path], dict[str, str]]:
    """Checkpoints by step; and what looks like one and is none, with the reason."""
    numbered, missing, empty = dict[int, Path](), dict[str, str](), dict[str, int]()
    for path in sorted(path for path in directory.iterdir() if path.is_dir()):
        step, is_model = training_step(path.name), (path / "config.json").is_file()
        if step is None and path.is_symlink():
            continue  # such as "latest"
        if not is_model and (step is None or path.name.isdigit()):
            continue  # any other directory
        if step is None:
            missing[path.name] = "its name has no step number"
        elif not is_model:
            missing[path.name], empty[path.name] = "it has no config.json", step
        elif not weights_in_directory(path):
            missing[path.name], empty[path.name] = "it has no weights", step
        elif step not in numbered:
            numbered[step] = path
        elif numbered[step].resolve() != path.resolve():
            raise UsageError(f"{numbered[step].name} and {path.name} are both step {step}; keep one of them.")
    # What stands beside a checkpoint of the same step, such as its optimizer's state, is no other checkpoint.
    return numbered, {name: why for name, why in missing.items() if empty.get(name) not in numbered}


def _has_tokenizer(directory: Path) -> bool:
    return any((directory / name).is_file() for name in TOKENIZER_FILES)


def _sizes(models: Models, names: list[str], options: SurveyOptions) -> Listed:
    if len(names) < 2:
        raise UsageError(
            "checkpoints compares checkpoints of one MODEL, with --revisions step1,step1000 or --checkpoint-dir DIR, "
            f"or several MODELs of one family; got {names[0] if names else 'none'} alone."
        )
    found = identified(models, [(name, options.loading) for name in names], options)
    _refuse_other_tokenizers(_tokenizers({model.name: model for model in found}))
    return Listed(found, {}, f"{Path(names[0]).resolve().name}-sizes")


def _identified(ways: Mapping[str, Callable[[], IdentifiedModel]], missing: dict[str, str], directory: str) -> Listed:
    found, left_out = list[IdentifiedModel](), dict(missing)
    for name, identify in ways.items():
        try:
            found.append(identify())
        except ModelError as error:
            left_out[name] = str(error)
    if not found:
        first = next(name for name in left_out if name in ways)
        said = f"none of {len(ways)} checkpoints can be measured; {first}: " if len(ways) > 1 else ""
        raise ModelError(f"{said}{left_out[first]}")
    _refuse_other_tokenizers(_tokenizers({model.revision: model for model in found}))
    return Listed(found, left_out, directory)


def _shape(model: IdentifiedModel) -> _Shape:
    text: Any = model.config.get_text_config(decoder=True)
    return text.num_hidden_layers, text.num_attention_heads, text.hidden_size


def _refuse_other_shapes(shapes: Sequence[tuple[str, _Shape]]) -> None:
    for name, shape in shapes:
        first, expected = shapes[0]
        if shape != expected:
            raise UsageError(
                f"checkpoints of one model have one shape; {first} has {_words(expected)}, {name} has {_words(shape)}. "
                "Leave one out, or compare models of several sizes without --revisions and --checkpoint-dir."
            )


def _words(shape: _Shape) -> str:
    return "{} blocks, {} heads, width {}".format(*shape)


def _tokenizers(models: Mapping[str, IdentifiedModel]) -> dict[str, str]:
    return {name: identity_of_tokenizer(model.tokenizer) for name, model in models.items()}


def _refuse_other_tokenizers(identities: Mapping[str, str]) -> None:
    first = next(iter(identities))
    for name, identity in identities.items():
        if identity != identities[first]:
            raise UsageError(
                f"{first} and {name} have different tokenizers, so that their prompts would not be the same tokens; "
                "measure them in runs of their own."
            )
