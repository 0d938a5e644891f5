"""What identifies a model: its weights by content, its configuration and tokenizer by a hash."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, try_to_load_from_cache

from thalweg.capture._stored import StoredTensor

HASHED_WHOLE, PIECE, PIECES = 2**28, 2**20, 256
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
OF_A_TRAINER = ("optimizer*", "scheduler.pt", "scaler.pt", "rng_state*.pth", "training_args.bin", "*_states.pt")
"""Pickles that a trainer leaves beside the weights, several times as large as they are."""
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INCIDENTAL = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures")
OF_A_CALL = ("version", "truncation", "padding")
"""Parts of tokenizer.json that whoever saved it last has left there; every call sets them anew."""


def identity_of_directory(path: Path) -> str:
    """sha256 over name, size and content of every weight file; of a large one its header and evenly spaced pieces."""
    digest = hashlib.sha256()
    for file in weights_in_directory(path):
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        starts = range(0, size, PIECE) if size <= HASHED_WHOLE else range(0, size, size // PIECES)
        with file.open("rb") as opened:
            for start in starts:
                opened.seek(start)
                digest.update(opened.read(PIECE))
    return f"sha256:{digest.hexdigest()}"


def identity_of_stored(tensors: Iterable[StoredTensor]) -> str:
    """sha256 over the sorted tensors of files: names, types, shapes, bytes."""
    digest = hashlib.sha256()
    for tensor in sorted(tensors, key=lambda tensor: tensor.name):
        digest.update(f"{tensor.name}\0{tensor.dtype}\0{tensor.shape}\0".encode())
        with tensor.file.open("rb") as opened:
            opened.seek(tensor.start)
            for start in range(0, tensor.size, PIECE):
                digest.update(opened.read(min(PIECE, tensor.size - start)))
    return f"sha256:{digest.hexdigest()}"


def weights_in_directory(path: Path) -> list[Path]:
    """The weight files of a directory: safetensors, or pickles where there are none."""
    return sorted(path.glob("*.safetensors")) or pickled_in_directory(path)


def pickled_in_directory(path: Path) -> list[Path]:
    """The files of a directory that may be pickled weights."""
    files = (file for pattern in PICKLED for file in path.glob(pattern))
    return sorted(file for file in files if not any(fnmatch(file.name, pattern) for pattern in OF_A_TRAINER))


def identity_of_tokenizer(tokenizer: Any) -> str:
    """sha256 over what makes other tokens of the same text."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    words = json.loads(fast.to_str()) if fast is not None else sorted(tokenizer.get_vocab().items())
    if isinstance(words, dict):
        words = {name: part for name, part in words.items() if name not in OF_A_CALL}
    text = json.dumps(words, sort_keys=True) + str(tokenizer.bos_token)  # other special tokens enter no prompt
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def identity_of_configuration(config: Any, tokenizer: Any) -> str:
    """sha256 over what makes other numbers of the same weights: the configuration and the tokenizer."""
    settings = {name: value for name, value in config.to_dict().items() if name not in INCIDENTAL}
    fast = getattr(tokenizer, "backend_tokenizer", None)
    words = fast.to_str() if fast is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    text = json.dumps(settings, sort_keys=True, default=str) + words + str(tokenizer.special_tokens_map)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def identity_on_hub(name: str, commit: str | None, *, allow_pickle: bool) -> str:
    """The hub's blob id, a hash of the content, of the weights; of several shards a hash over theirs."""
    blobs = weights_on_hub(name, commit, allow_pickle=allow_pickle)
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
        blobs = {shard: Path(path).resolve().name for shard, path in cached.items() if isinstance(path, str)}
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
