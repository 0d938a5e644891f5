"""Tuned lenses on disk and on the hub: ``config.json`` beside ``params.pt``, as published, or ``params.safetensors``.

A pickle is read with ``weights_only`` and may hold nothing but tensors. What a lens says it was made for is compared
with the model before either is used.
"""

import hashlib
import io
import json
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from types import NoneType
from typing import Any

import numpy as np
import torch
from huggingface_hub import errors as hub
from huggingface_hub import hf_hub_download
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from thalweg.capture import IdentifiedModel, Subject
from thalweg.errors import ModelError, UsageError
from thalweg.lenses._logit import LogitLens
from thalweg.lenses._tuned import TunedLens, translators_of
from thalweg.paths import TUNED_LENSES, file_here, lens_directory
from thalweg.store import FileFacts, facts_of, is_whole, write_whole

KIND = "linear_tuned_lens"
CONFIG, PICKLE, SAFE = "config.json", "params.pt", "params.safetensors"
CHECKSUMS = "checksums"
"""In the configuration of our own lenses: sha256 and size of each file, and of all else in the configuration."""
OURS = {CHECKSUMS, "base_model_weights"}
"""What published lenses do not say: two names, since one may be what is damaged."""


@dataclass(frozen=True)
class TunedFiles:
    """A tuned lens that has been read and not yet put on a model.

    Attributes:
        name: where it is, as a person would say it.
        config: config.json.
        tensors: "0.weight", "0.bias", ... one translator for each state before the last.
        digest: sha256 over the tensors.
    """

    name: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    digest: str


def read_tuned(source: str | Path, model: IdentifiedModel) -> TunedFiles:
    """Read a tuned lens and refuse one that was made for another model; no weights of the model are needed.

    Args:
        source: a directory with config.json and params.safetensors or params.pt; a run in which one lens was trained;
            "AlignmentResearch/tuned-lens" for the lens that is published for ``model``, or that name, a colon and the
            lens's own.
        model: what it is to be used on.

    Raises:
        ModelError: there is no such lens, it cannot be read, holds anything but tensors, or was made for another model.
    """
    directory = lens_directory(source)
    if directory is None:
        return _read_hub(str(source).partition(":")[2] or model.name, model)
    return _read_directory(_lens_in(directory), model)


def _require_made_for(name: str, config: Mapping[str, Any], model: IdentifiedModel) -> None:
    """A directory may be called anything: :func:`tuned_lens` looks at its unembedding instead of its name."""
    text = model.config.get_text_config(decoder=True)
    wanted = {"lens_type": KIND, "d_model": text.hidden_size, "num_hidden_layers": text.num_hidden_layers}
    for setting, value in wanted.items():
        if config[setting] != value:
            raise _of_another(name, model, f"{setting} {config[setting]!r}", repr(value))
    made, weights = config.get("base_model_revision") or "main", config.get("base_model_weights")
    if model.revision != "local" and made not in (model.revision, model.commit):
        raise _of_another(name, model, f"revision {made}", model.revision)
    if weights is not None and weights != model.weights:
        raise _of_another(name, model, f"weights {weights[:20]}...", f"{str(model.weights)[:20]}...")
    if model.revision != "local" and not _is_named_alike(config, model):
        raise _of_another(name, model, f"model {config.get('base_model_name_or_path')!r}", repr(model.name))


def _is_named_alike(config: Mapping[str, Any], model: IdentifiedModel) -> bool:
    """Whether a lens names the model it was made for as the model is called, or its very weights."""
    named = Path(config.get("base_model_name_or_path", "")).name.lower()
    return "base_model_weights" in config or named == Path(model.name).resolve().name.lower()


def tuned_lens(subject: Subject, found: TunedFiles, model: IdentifiedModel) -> TunedLens:
    """Put a lens on its model, once it is loaded.

    Raises:
        ModelError: neither the name nor the unembedding of the model is the one that the lens was made for.
        ProofError: final norm and unembedding do not give the model's own logits.
    """
    lens = TunedLens(subject, translators_of(found.tensors))
    head: Any = lens.model.unembedding.head
    if not _is_named_alike(found.config, model) and found.config.get("unembed_hash") != unembedding_hash(head.weight):
        raise _of_another(
            found.name, model, f"model {found.config.get('base_model_name_or_path')!r}", "another unembedding"
        )
    return lens


def save_tuned(directory: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a tuned lens as published ones are, and as safetensors beside; each file whole or not at all.

    The configuration is written last and has the checksums of all.

    Raises:
        RunError: the directory cannot be written.
    """
    translators = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    pickled = io.BytesIO()
    torch.save(translators, pickled)
    files = {SAFE: to_safetensors(translators), PICKLE: pickled.getvalue()}
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(directory / name, content)
    checked = {**config, CHECKSUMS: {name: facts_of(content).model_dump() for name, content in files.items()}}
    checked[CHECKSUMS][CONFIG] = facts_of(_plain(checked)).model_dump()
    write_whole(directory / CONFIG, json.dumps(checked, indent=2).encode() + b"\n")


def damaged_file(directory: Path) -> Path | None:
    """The file of one of our own lenses that does not hold what was written, if there is one.

    Raises:
        ModelError: the configuration cannot be read at all.
    """
    config = _config(directory / CONFIG)
    if not OURS & config.keys():
        return None
    try:
        facts = {name: FileFacts(**values) for name, values in config[CHECKSUMS].items()}
        own = facts.pop(CONFIG)
        del config[CHECKSUMS][CONFIG]
    except (KeyError, TypeError, ValueError, AttributeError):
        return directory / CONFIG
    if own != facts_of(_plain(config)):
        return directory / CONFIG
    there = {directory / name: each for name, each in facts.items() if (directory / name).exists()}
    return next((file for file, each in there.items() if not is_whole(file, each)), None)


def _plain(config: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(config), sort_keys=True).encode()


def unembedding_hash(weight: Tensor) -> str:
    """What published checkpoints hash the unembedding to: its printed corners, to one digit."""
    return hashlib.sha256(np.array_str(weight.detach().float().cpu().numpy(), precision=1).encode()).hexdigest()


def _lens_in(directory: Path) -> Path:
    """The directory itself, or the one lens that was trained in a run."""
    if (directory / CONFIG).is_file() and not (directory / "run.json").exists():
        return directory
    trained = sorted(path.parent for path in directory.glob(f"tuned_lens/*/lens/{CONFIG}"))
    if len(trained) == 1:
        return trained[0]
    there = ", ".join(map(str, trained)) or "none"
    raise ModelError(f"--tuned {directory}: expected one tuned lens, {CONFIG} beside {PICKLE}; got {there}.")


def _read_directory(directory: Path, model: IdentifiedModel) -> TunedFiles:
    config = _config(directory / CONFIG)
    if path := damaged_file(directory):
        raise ModelError(f"{path} is damaged: it does not hold what was written. Train the lens again, or restore it.")
    for file in (directory / SAFE, directory / PICKLE):
        if file.exists():
            return _read(str(directory), config, file, model)
    raise ModelError(f"--tuned {directory}: expected {PICKLE} or {SAFE} beside {CONFIG}; got neither.")


def _read_hub(name: str, model: IdentifiedModel) -> TunedFiles:
    try:
        params, config = (
            Path(hf_hub_download(TUNED_LENSES, f"lens/{name}/{file}", repo_type="space")) for file in (PICKLE, CONFIG)
        )
    except (hub.EntryNotFoundError, hub.HFValidationError, OSError) as error:
        known = isinstance(error, hub.EntryNotFoundError | hub.HFValidationError)
        if known and not isinstance(error, hub.LocalEntryNotFoundError):
            raise ModelError(
                f"{TUNED_LENSES} has no tuned lens for {name}. Give a directory, or train one: "
                f"`{shlex.join(['thalweg', 'lens', name, '--train-tuned'])}`."
            ) from error
        raise ModelError(
            f"the hub cannot be reached and {TUNED_LENSES}:{name} is not in the local cache. Check the connection "
            "(HF_HUB_OFFLINE=1 forbids it), or give a local directory."
        ) from error
    return _read(f"{TUNED_LENSES}:{name}", _config(config), params, model)


SETTINGS: Mapping[str, tuple[type, ...]] = {
    "lens_type": (str,),
    "d_model": (int,),
    "num_hidden_layers": (int,),
    "bias": (bool,),
    "base_model_name_or_path": (str,),
    "base_model_revision": (str, NoneType),
    "base_model_weights": (str, NoneType),
    "unembed_hash": (str, NoneType),
}
"""What is read of a configuration."""
USUAL = {"lens_type": KIND, "bias": True}
"""What it means where it does not say it."""


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(file_here(path, ModelError).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as a tuned lens's configuration: {error}.") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected one JSON object; got {type(config).__name__}.")
    for name in ("d_model", "num_hidden_layers", *config):
        if name in SETTINGS and type(config.get(name)) not in SETTINGS[name]:
            kinds = " or ".join(kind.__name__.removesuffix("Type") for kind in SETTINGS[name])
            raise ModelError(f"{path}: expected {name} as {kinds}; got {config.get(name)!r:.60}. It is no tuned lens.")
    return config


def _read(name: str, config: dict[str, Any], file: Path, model: IdentifiedModel) -> TunedFiles:
    """Read a lens that is made for this model, whose sizes bound its own."""
    config = {**USUAL, **config}
    _require_made_for(name, config, model)
    file_here(file, ModelError)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's remarks on how the file was written
            read: Any = _loaded(file)
    except Exception as error:  # the file is anyone's, and so are the kinds of error it causes
        said = shorten(" ".join(str(error).split()), 100, placeholder=" ...")
        raise ModelError(
            f"{file} holds more than tensors, or is damaged; it is not read ({type(error).__name__}: {said}). Expected "
            "those of a tuned lens: fetch or train it again."
        ) from error
    if not isinstance(read, dict) or not all(isinstance(tensor, Tensor) for tensor in read.values()):
        raise ModelError(f"{file} holds more than tensors; it is not read. Expected those of a tuned lens.")
    tensors = _translators(name, file, config, {str(key): tensor for key, tensor in read.items()})
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(f"{key}\0{tuple(tensors[key].shape)}\0".encode())
        digest.update(tensors[key].numpy().tobytes())
    return TunedFiles(name, config, tensors, digest.hexdigest())


def _loaded(file: Path) -> Any:
    if file.name == SAFE:
        return load_safetensors(file.read_bytes())
    return torch.load(file, map_location="cpu", weights_only=True)


FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _translators(name: str, file: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All that a lens may be, in float32: a translator a state, of the model's width, dense, real and finite."""
    width, states = config["d_model"], range(config["num_hidden_layers"])
    shapes = {f"{state}.weight": (width, width) for state in states}
    shapes |= {f"{state}.bias": (width,) for state in states if config["bias"]}
    found = dict[str, Tensor]()
    for key in sorted(shapes.keys() | tensors.keys()):
        tensor, expected = tensors.get(key), shapes.get(key)
        got = _kind(tensor)
        if tensor is not None and got is None:
            got = f"shape {tuple(tensor.shape)}"
            if tuple(tensor.shape) == expected:
                found[key] = tensor.detach().resolve_neg().float().contiguous()
                got = "numbers that are not finite"
        if key not in found or not found[key].isfinite().all():
            wanted = "no " + key if expected is None else f"{key} as finite floating-point numbers of shape {expected}"
            raise ModelError(
                f"{name}: expected {wanted}, as its {CONFIG} says; got {got} in {file.name}. Fetch or train the lens "
                "again."
            )
    return found


def _kind(tensor: Tensor | None) -> str | None:
    """What a tensor is, where that is no lens's; None for one whose numbers are all there, one by one."""
    if tensor is None:
        return "none"
    if tensor.is_nested or tensor.layout != torch.strided:
        return "a nested tensor" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
    if tensor.dtype not in FLOATING:
        return str(tensor.dtype).removeprefix("torch.")
    if tensor.device.type != "cpu":
        return f"nothing but a shape ({tensor.device.type})"
    whole = tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
    return None if whole else "fewer numbers than its shape has"


def _of_another(name: str, model: IdentifiedModel, made: str, wanted: str) -> ModelError:
    return ModelError(
        f"{name} was made for another model: it says {made}, {model.name} has {wanted}. Use the lens of this "
        "model, or train one with --train-tuned."
    )


@dataclass(frozen=True)
class LensChoice:
    """A lens before its model is loaded.

    Attributes:
        tuned: the tuned lens, compared with the model; None for the logit lens.
        final_norm: whether the logit lens has it.
    """

    tuned: TunedFiles | None = None
    final_norm: bool = True

    @property
    def settings(self) -> dict[str, str | bool]:
        """What of it changes a number."""
        if self.tuned is None:
            return {"lens": "logit", "final_norm": self.final_norm}
        return {"lens": "tuned", "translators": self.tuned.digest[:16]}

    def on(self, subject: Subject, model: IdentifiedModel) -> LogitLens | TunedLens:
        """Put the lens on the loaded model.

        Raises:
            ModelError, ProofError: as :func:`tuned_lens` and :class:`LogitLens`.
        """
        if self.tuned is None:
            return LogitLens(subject, final_norm=self.final_norm)
        return tuned_lens(subject, self.tuned, model)


def choose_lens(tuned: str | Path | None, model: IdentifiedModel, *, final_norm: bool = True) -> LensChoice:
    """Read the files of a tuned lens and compare them with the model, whose weights are not loaded yet.

    Args:
        tuned: as :func:`read_tuned` takes it; None for the logit lens.
        model: whose states are to be read.
        final_norm: False leaves the final norm out of the logit lens.

    Raises:
        UsageError: a tuned lens without the final norm; a lens that cannot be read, or is of another model.
    """
    if tuned is not None and not final_norm:
        raise UsageError("--no-final-norm goes with the logit lens; a tuned lens was trained with the final norm.")
    return LensChoice(None if tuned is None else read_tuned(tuned, model), final_norm)
