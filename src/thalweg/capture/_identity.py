"""What identifies a model: its weights by content, its configuration and tokenizer by a hash."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from thalweg.capture._kept import keep, kept, key_of, name_of
from thalweg.capture._shared import entire
from thalweg.capture._stored import StoredTensor, digests, stored_in

VERSION = "1"
"""Of how identities are computed: those kept by another are computed again."""
UNREAD = (r"rotary_emb\.inv_freq$",)
"""Tensors of old files that no model reads."""
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
OF_A_TRAINER = ("optimizer*", "scheduler.pt", "scaler.pt", "rng_state*.pth", "training_args.bin", "*_states.pt")
"""Pickles that a trainer leaves beside the weights, several times as large as they are."""
OF_AN_ADAPTER = "adapter_model.*"
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INCIDENTAL = (
    "transformers_version",
    "_name_or_path",
    "_model_name_or_path",
    "dtype",
    "torch_dtype",
    "architectures",
)
OF_A_CALL = ("version", "truncation", "padding")
"""Parts of tokenizer.json that whoever saved it last has left there; every call sets them anew."""


def identity_of_model(model: Any) -> str:
    """sha256 over the sorted tensors of a model in memory, as saving it would write them: a tied one once."""
    tensors = model.state_dict()
    if isinstance(model, PreTrainedModel):
        with suppress(NotImplementedError):  # a quantized one that transformers cannot save once it is loaded
            tensors = revert_weight_conversion(model, tensors)
    return _identity(_in_memory(tensors), type(model))


def identity_of_files(files: Sequence[Path], kind: type | None) -> str:
    """The same of safetensors files that hold a model of this class; or of pickles, once they are trusted."""
    try:
        tensors = [tensor for file in files if file.suffix == ".safetensors" for tensor in stored_in(file)]
    except SafetensorError:  # loading will say what is wrong; until then the file is known by its bytes
        return f"damaged:{hashlib.sha256(b''.join(map(_bytes_digest, files))).hexdigest()}"
    pickled = [file for file in files if file.suffix != ".safetensors"]
    in_pickles = (known for file in pickled for known in _in_memory(torch.load(file, "cpu", weights_only=True)))
    return _identity([*_known(tensors), *in_pickles], kind)


def _bytes_digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def identity_of_stored(tensors: Sequence[StoredTensor]) -> str:
    """The same of tensors in files that name them in their own way."""
    return _identity(_known(tensors), None)


def kept_identity(names: Iterable[str], kind: type | None, compute: Callable[[], str] | None) -> str | None:
    """The identity of files with these names, as the user's cache knows it, or as computed now and kept there."""
    key = key_of([*names, VERSION, str(getattr(kind, "__qualname__", None))])
    identity = kept(key)
    if identity is None and compute is not None:
        identity = compute()
        keep(key, identity)
    return identity


def identity_in_directory(path: Path, kind: type | None) -> str | None:
    """The same of the weights in a directory."""
    files = weights_in_directory(path)
    return kept_identity(map(name_of, files), kind, lambda: identity_of_files(files, kind))


def class_of(config: Any) -> type | None:
    """The class that transformers builds from a configuration; None where the model comes with its own code."""
    found: Any = AutoModelForCausalLM._model_mapping.get(type(config), None)
    return found[0] if isinstance(found, tuple) else found


def quantization_of(config: Any) -> str | None:
    """How a checkpoint says that it is quantized, such as "bitsandbytes 8-bit"; None where it says nothing."""
    said = config.to_dict().get("quantization_config") or config.get_text_config(decoder=True).to_dict().get(
        "quantization_config"
    )
    if not said:
        return None
    method = getattr(said.get("quant_method"), "value", said.get("quant_method")) or "unknown method"
    bits = said.get("bits") or (8 if said.get("load_in_8bit") else 4 if said.get("load_in_4bit") else None)
    kind = said.get("format") or (said.get("bnb_4bit_quant_type") if bits == 4 else None)
    return " ".join(str(each) for each in (method, f"{bits}-bit" if bits else None, kind) if each)


@dataclass(frozen=True)
class _Known:
    name: str
    content: str
    """Type, shape and digest."""


def _known(tensors: Sequence[StoredTensor]) -> list[_Known]:
    return [
        _Known(tensor.name, f"{tensor.dtype} {list(tensor.shape)} {digest}")
        for tensor, digest in zip(tensors, digests(tensors), strict=True)
    ]


def _in_memory(tensors: Mapping[str, Any]) -> list[_Known]:
    known, contents = list[_Known](), dict[Any, str]()
    for name, tensor in tensors.items():
        if isinstance(tensor, torch.Tensor):
            kind = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
            plain = type(tensor) is torch.Tensor  # any other may hold its numbers elsewhere than it says
            place = (tensor.device, tensor.data_ptr(), tensor.stride(), kind) if plain else name
            if place not in contents:  # tied ones are read once
                contents[place] = f"{kind} {_digest(tensor)}"
            known.append(_Known(name, contents[place]))
    return known


def _digest(tensor: torch.Tensor) -> str:
    values = entire(tensor.detach()).cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(values.data).hexdigest()


def _identity(tensors: Iterable[_Known], kind: type | None) -> str:
    """One sha256; without tied copies, what loading leaves out, and the prefix that some files have and some lack."""
    tied, prefix = tuple(getattr(kind, "_tied_weights_keys", None) or ()), getattr(kind, "base_model_prefix", "")
    unread = (*(getattr(kind, "_keys_to_ignore_on_load_unexpected", None) or ()), *UNREAD)
    read = [tensor for tensor in tensors if not any(re.search(each, tensor.name) for each in unread)]
    times = Counter(tensor.content for tensor in read)
    once = [
        tensor
        for tensor in read
        if times[tensor.content] == 1 or not any(re.search(each, tensor.name) for each in tied)
    ]
    lines = sorted(f"{tensor.name.removeprefix(f'{prefix}.')} {tensor.content}\n" for tensor in once)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def stored_in_files(files: Iterable[Path]) -> list[StoredTensor]:
    """The tensors of the safetensors files among these, as they lie there; none of a damaged one."""
    stored = list[StoredTensor]()
    for file in files:
        with suppress(SafetensorError):
            stored += stored_in(file) if file.suffix == ".safetensors" else []
    return stored


def weights_in_directory(path: Path) -> list[Path]:
    """The weight files of a directory: safetensors, or pickles where there are none; those that are loaded."""
    for whole in HUB_WEIGHTS:
        if (path / whole).is_file():
            return [path / whole]
        index = path / f"{whole}.index.json"
        with suppress(OSError, ValueError, KeyError):
            shards = [path / shard for shard in sorted(set(json.loads(index.read_bytes())["weight_map"].values()))]
            return [shard for shard in shards if shard.is_file()]
    loose = (file for file in path.glob("*.safetensors") if not fnmatch(file.name, OF_AN_ADAPTER))
    return sorted(loose) or pickled_in_directory(path)


def pickled_in_directory(path: Path) -> list[Path]:
    """The files of a directory that may be pickled weights."""
    files = (file for pattern in PICKLED for file in path.glob(pattern))
    others = (*OF_A_TRAINER, OF_AN_ADAPTER)
    return sorted(file for file in files if not any(fnmatch(file.name, pattern) for pattern in others))


def identity_of_tokenizer(tokenizer: Any) -> str:
    """sha256 over what makes other tokens of the same text."""
    text = _words(tokenizer) + str(tokenizer.bos_token)  # other special tokens enter no prompt
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def identity_of_configuration(config: Any, tokenizer: Any) -> str:
    """sha256 over what makes other numbers of the same weights: the configuration and the tokenizer."""
    settings = json.dumps(_settings(config.to_dict()), sort_keys=True, default=str)
    text = settings + _words(tokenizer) + str(tokenizer.special_tokens_map)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, and those inside it, without what saving adds."""
    return {
        name: _settings(value) if isinstance(value, Mapping) and "_name_or_path" in value else value
        for name, value in config.items()
        if name not in INCIDENTAL
    }


def _words(tokenizer: Any) -> str:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return json.dumps(sorted(tokenizer.get_vocab().items()))
    return _sorted(fast.to_str())


@lru_cache(maxsize=1)  # the tokenizer of one model is asked about several times, and so are those of its checkpoints
def _sorted(words: str) -> str:
    parts = json.loads(words)
    return json.dumps({name: part for name, part in parts.items() if name not in OF_A_CALL}, sort_keys=True)


def files_on_hub(blobs: Mapping[str, str], commit: str | None) -> str:
    """What the hub knows weight files by before they are here: its blob id, or a hash over those of several."""
    if len(blobs) == 1:
        return f"blob:{next(iter(blobs.values()))}"
    listed = "".join(f"{file}\0{blob}\0" for file, blob in sorted(blobs.items()))
    return f"blobs:{hashlib.sha256(listed.encode()).hexdigest()}" if blobs else f"commit:{commit}"


def weights_on_hub(name: str, commit: str | None, *, allow_pickle: bool) -> dict[str, str]:
    """The weight files of a model on the hub with their blob ids."""
    readable = HUB_WEIGHTS if allow_pickle else HUB_WEIGHTS[:1]
    return _cached_blobs(name, commit, readable) or _listed_blobs(name, commit, readable)


def _cached_blobs(name: str, commit: str | None, readable: Sequence[str]) -> dict[str, str]:
    """Blob ids of the weight files in the local cache; none unless every one of them is there."""
    for whole in readable:
        index = try_to_load_from_cache(name, f"{whole}.index.json", revision=commit)
        shards = [whole]
        if isinstance(index, str):
            shards = sorted(set(json.loads(Path(index).read_bytes())["weight_map"].values()))
        cached = {shard: try_to_load_from_cache(name, shard, revision=commit) for shard in shards}
        blobs = {shard: name_of(Path(path)) for shard, path in cached.items() if isinstance(path, str)}
        if len(blobs) == len(shards):
            return blobs
    return {}


def _listed_blobs(name: str, commit: str | None, readable: Sequence[str]) -> dict[str, str]:
    """The same from the hub's own list of files."""
    siblings = HfApi().model_info(name, revision=commit, files_metadata=True).siblings or []
    blobs = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in siblings}
    for whole in readable:
        stem, _, end = whole.partition(".")
        sharded = f"{whole}.index.json" in blobs
        wanted = [file for file in blobs if (fnmatch(file, f"{stem}-*-of-*.{end}") if sharded else file == whole)]
        if wanted:
            return {file: blob for file in wanted if (blob := blobs[file])}
    return {}
