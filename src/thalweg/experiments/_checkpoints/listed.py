"""Which checkpoints are there: revisions on the hub, directories of a training, or models of several sizes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from thalweg.averages import training_order, training_step
from thalweg.capture import IdentifiedModel, identify_model, identity_of_tokenizer, weights_in_directory
from thalweg.errors import ModelError, UsageError
from thalweg.experiments._options import Names, SurveyOptions
from thalweg.experiments._prepare import named
from thalweg.reference import bundled_directory
from thalweg.store import RunHeader

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
_Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Listed:
    """What can be measured and what cannot.

    Attributes:
        models: identified, in the order of training.
        missing: by revision or directory, why it is left out.
        directory: what the run's directory is called by default.
    """

    models: list[IdentifiedModel]
    missing: dict[str, str]
    directory: str


def list_checkpoints(
    models: Names | None,
    revisions: Sequence[str] | None,
    directory: str | Path | None,
    options: SurveyOptions,
) -> Listed:
    """Find and identify what is asked for; weights are not read.

    Raises:
        UsageError: what is asked for cannot be understood, nothing of it is there, or two of them do not belong
            together.
    """
    if revisions is not None and directory is not None:
        raise UsageError("--revisions are on the hub and --checkpoint-dir is here; pass one of them.")
    if options.revision is not None and (revisions is not None or directory is not None):
        raise UsageError("--revision goes with models of several sizes; name checkpoints with --revisions.")
    if revisions is not None:
        found = _on_the_hub(models, revisions, options)
    elif directory is not None:
        found = _in_a_directory(models, Path(directory), options)
    else:
        return _sizes(models, options)
    _refuse_other_shapes([(one.revision, _shape(one)) for one in found.models])
    return found


def refuse_a_run_of_other_shapes(header: RunHeader, models: Sequence[IdentifiedModel]) -> None:
    """Checkpoints that join a run have the shape of those that it holds of the same model.

    Raises:
        UsageError: two have not, and which.
    """
    for name in {one.name for one in models}:
        held = [
            (f"{one.revision}, which the run holds,", (one.blocks, one.heads, one.width))
            for one in header.models
            if one.name == name and one.width is not None
        ]
        _refuse_other_shapes([*held, *((one.revision, _shape(one)) for one in models if one.name == name)])


def _on_the_hub(models: Names | None, revisions: Sequence[str], options: SurveyOptions) -> Listed:
    names = [] if models is None else named(models)
    if len(names) != 1:
        raise UsageError(f"--revisions are those of one MODEL on the hub; got {len(names)} models.")
    [name] = names
    if bundled_directory(name) is not None or Path(name).is_dir():
        raise UsageError(f"{name} is a directory, which has no revisions; pass --checkpoint-dir with its checkpoints.")
    wanted = [one.strip() for one in revisions]
    if not all(wanted) or not wanted:
        raise UsageError("--revisions must name at least one, as step1,step1000; got an empty name.")
    repeated = sorted({one for one in wanted if wanted.count(one) > 1})
    if repeated:
        raise UsageError(f"--revisions {repeated[0]} is given twice; name each once.")
    found = {
        one: partial(identify_model, name, replace(options.loading, revision=one)) for one in training_order(wanted)
    }
    return _identified(found, {}, f"{Path(name).name}-checkpoints")


def _in_a_directory(models: Names | None, directory: Path, options: SurveyOptions) -> Listed:
    names = [] if models is None else named(models)
    if len(names) > 1:
        raise UsageError(f"--checkpoint-dir holds checkpoints of one MODEL; got {len(names)} models.")
    if not directory.is_dir():
        raise UsageError(f"--checkpoint-dir {directory} is no directory.")
    name = names[0] if names else directory.resolve().name
    numbered, missing = _numbered(directory)
    own = directory if _has_tokenizer(directory) else None
    if numbered and own is None and not any(map(_has_tokenizer, numbered.values())):
        raise UsageError(
            f"{directory} has no tokenizer: expected tokenizer.json, or its kin, there or beside each checkpoint's "
            "config.json. Copy it from the model that the training began with."
        )
    found = {
        f"step{step}": partial(
            identify_model,
            name,
            replace(options.loading, revision=f"step{step}"),
            directory=path,
            tokenizer_directory=None if _has_tokenizer(path) else own,
        )
        for step, path in sorted(numbered.items())
    }
    if not found:
        said = "".join(f" {one}: {why}." for one, why in missing.items())
        raise UsageError(
            f"{directory} holds no checkpoint: expected directories such as checkpoint-100 or step100, each with "
            f"config.json and weights.{said}"
        )
    return _identified(found, missing, f"{Path(name).name}-checkpoints")


def _numbered(directory: Path) -> tuple[dict[int, Path], dict[str, str]]:
    """Checkpoints by step; and what looks like one and is none, with the reason."""
    numbered, missing, empty = dict[int, Path](), dict[str, str](), dict[str, int]()
    for path in sorted(one for one in directory.iterdir() if one.is_dir()):
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


def _sizes(models: Names | None, options: SurveyOptions) -> Listed:
    names = [] if models is None else named(models)
    if len(names) < 2:
        raise UsageError(
            "checkpoints compares checkpoints of one MODEL, with --revisions step1,step1000 or --checkpoint-dir DIR, "
            f"or several MODELs of one family; got {names[0] if names else 'none'} alone."
        )
    found = [identify_model(name, options.loading, directory=bundled_directory(name)) for name in names]
    _refuse_other_tokenizers({one.name: one for one in found})
    return Listed(found, {}, f"{Path(names[0]).resolve().name}-sizes")


def _identified(wanted: Mapping[str, Callable[[], IdentifiedModel]], missing: dict[str, str], directory: str) -> Listed:
    found, left_out = list[IdentifiedModel](), dict(missing)
    for name, identify in wanted.items():
        try:
            found.append(identify())
        except ModelError as error:
            left_out[name] = str(error)
    if not found:
        first = next(name for name in left_out if name in wanted)
        said = f"none of {len(wanted)} checkpoints can be measured; {first}: " if len(wanted) > 1 else ""
        raise ModelError(f"{said}{left_out[first]}")
    _refuse_other_tokenizers({one.revision: one for one in found})
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


def _refuse_other_tokenizers(models: dict[str, IdentifiedModel]) -> None:
    identities = {name: identity_of_tokenizer(model.tokenizer) for name, model in models.items()}
    first = next(iter(identities))
    for name, identity in identities.items():
        if identity != identities[first]:
            raise UsageError(
                f"{first} and {name} have different tokenizers, so that their prompts would not be the same tokens; "
                "measure them in runs of their own."
            )
