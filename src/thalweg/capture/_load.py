"""Load a model once, safely: safetensors only and no remote code unless asked, every failure one clear line."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub import errors as hub
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from thalweg.capture._positions import context_of
from thalweg.errors import ModelError, ThalwegError

__all__ = ["IdentifiedModel", "LoadOptions", "identify_model", "load_model"]

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
HASHED_WHOLE, PIECE, PIECES = 2**28, 2**20, 256
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INCIDENTAL = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures")
COUNTED = ("num_hidden_layers", "num_attention_heads", "hidden_size")


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded.

    Attributes:
        revision: branch, tag or commit on the hub.
        dtype: "auto" (as saved), "float32", "float64", "bfloat16" or "float16".
        device: "cpu", "cuda", "cuda:1", "mps"; None takes cuda where there is one.
        device_map: "auto" spreads the model over what there is, memory and disk included.
        max_memory: limits for ``device_map``, such as ``{"cpu": "8GiB"}``.
        offload_folder: where blocks that fit nowhere are kept.
        allow_pickle: read pickled weights as well; they can run code.
        trust_remote_code: run the code that comes with a model.
    """

    revision: str | None = None
    dtype: str = "auto"
    device: str | None = None
    device_map: str | None = None
    max_memory: Mapping[str | int, str | int] | None = None
    offload_folder: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False


@dataclass(frozen=True)
class IdentifiedModel:
    """A model that has been found but not loaded: everything that a run needs to know it by.

    Attributes:
        name: as asked for.
        source: what is loaded: a directory, or the hub id.
        options: how it will be loaded.
        config: its configuration.
        tokenizer: its tokenizer.
        revision: as asked for; "main" for the hub's default and "local" for a directory.
        commit: what the hub resolved the revision to.
        weights: hash over the weight files of a directory, or the hub's blob id of the weights; a hash over those of
            several shards.
        configuration: hash over the configuration and the tokenizer.
        dtype: of the computation, such as "bfloat16".
        context: longest prompt the model takes; None where there is no limit.
    """

    name: str
    source: str
    options: LoadOptions
    config: Any
    tokenizer: PreTrainedTokenizerBase
    revision: str
    commit: str | None
    weights: str
    configuration: str
    dtype: str
    context: int | None


def identify_model(name: str, options: LoadOptions | None = None, *, directory: Path | None = None) -> IdentifiedModel:
    """Find a model and read everything but its weights.

    Args:
        name: hub id or directory.
        options: how it will be loaded.
        directory: where the model is, if ``name`` does not say it.

    Raises:
        ModelError: the model cannot be found or reached, is gated, has no safe weights, needs remote code, or is not
            decoder-only.
    """
    options = options or LoadOptions()
    path = directory or _local(name)
    if options.dtype not in ("auto", *DTYPES):
        raise ModelError(f"dtype {options.dtype!r} is unknown; expected auto, {', '.join(DTYPES)}.")
    if path is not None and not (path / "config.json").is_file():
        raise ModelError(f"{name or path} has no config.json. Give the directory of a model, or a hub id.")
    source = str(path) if path else name
    with _readable_errors(name, options), _quiet():
        config = AutoConfig.from_pretrained(source, **_common(options))
        commit = None if path else _commit(name, options)
        _refuse_other_kinds(name, config)
        if path is not None:
            _refuse_unsafe_weights(path, options)
        weights = _identity_of_directory(path) if path else _identity_on_hub(name, commit, options)
    with _readable_errors(f"the tokenizer of {name}", options), _quiet():
        tokenizer = AutoTokenizer.from_pretrained(source, **_common(options, commit))
        _refuse_invented_tokenizer(name, tokenizer)
    return IdentifiedModel(
        name=name,
        source=source,
        options=options,
        config=config,
        tokenizer=tokenizer,
        revision=options.revision or ("local" if path else "main"),
        commit=commit,
        weights=weights,
        configuration=_identity_of_configuration(config, tokenizer),
        dtype=_dtype(options, config),
        context=context_of(config.get_text_config(decoder=True)),
    )


def load_model(identified: IdentifiedModel) -> PreTrainedModel:
    """Load the weights of an identified model and put it into evaluation mode.

    Raises:
        ModelError: the weights cannot be read, are not those of the configuration, or do not fit on the device.
    """
    options = identified.options
    device = _device(options.device) if options.device_map is None else None
    with _readable_errors(identified.name, options), _quiet(), _no_conversion():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            identified.source,
            config=identified.config,
            dtype=DTYPES[identified.dtype],
            use_safetensors=None if options.allow_pickle else True,
            weights_only=True,
            output_loading_info=True,
            **_placement(options),
            **_common(options, identified.commit),
        )
        model, found = loaded
        _refuse_invented_weights(identified.name, model, found["missing_keys"])
        return (model if device is None else model.to(torch.device(device))).eval()


def _common(options: LoadOptions, commit: str | None = None) -> dict[str, Any]:
    """What every file is asked for with: once the commit is known it is that one, whatever is pushed meanwhile."""
    return {"revision": commit or options.revision, "trust_remote_code": options.trust_remote_code}


def _commit(name: str, options: LoadOptions) -> str | None:
    """The commit that the revision means, by where its configuration has just been put."""
    cached = try_to_load_from_cache(name, "config.json", revision=options.revision or "main")
    return Path(cached).parent.name if isinstance(cached, str) else None


def _dtype(options: LoadOptions, config: Any) -> str:
    """As saved where the configuration says so, float32 where it says nothing."""
    if options.dtype != "auto":
        return options.dtype
    saved = str(getattr(config.get_text_config(decoder=True), "dtype", None)).removeprefix("torch.")
    return saved if saved in DTYPES else "float32"


def _local(name: str) -> Path | None:
    """The directory that ``name`` means, or None where it is a hub id."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(
            f"{name} is a file; expected a directory with config.json, or a hub id such as openai-community/gpt2."
        )
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no directory {name}. Give a directory with config.json, or a hub id.")
    return None


def _device(asked: str | None) -> str:
    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=asked).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise ModelError(f"device {asked!r} cannot be used: {reason}.") from error
    return asked


def _placement(options: LoadOptions) -> dict[str, Any]:
    if options.device_map is None:
        return {}
    return {
        "device_map": options.device_map,
        "max_memory": dict(options.max_memory) if options.max_memory else None,
        "offload_folder": options.offload_folder,
    }


def _refuse_other_kinds(name: str, config: Any) -> None:
    """Encoders and encoder-decoders, told by their configuration before anything large is read."""
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{name} is an encoder-decoder ({kind}); thalweg measures decoder-only models.")
    if type(config) not in AutoModelForCausalLM._model_mapping and not getattr(config, "auto_map", None):
        raise ModelError(f"{name} ({kind}) has no causal language model; thalweg measures decoder-only models.")
    built = getattr(config, "architectures", None) or ["no architecture"]
    if getattr(config, "is_decoder", None) is False and not any(one.endswith("ForCausalLM") for one in built):
        raise ModelError(f"{name} is an encoder ({built[0]}); thalweg measures decoder-only models.")
    text = config.get_text_config(decoder=True)
    if hasattr(text, "num_hidden_layers") and not hasattr(text, "num_attention_heads"):
        raise ModelError(
            f"{name} ({kind}) has no attention heads, as a pure state-space model; thalweg measures decoder-only "
            "models with softmax attention, and hybrids where they have it."
        )
    odd = [f"{count} = {value!r}" for count in COUNTED if not isinstance(value := getattr(text, count, None), int)]
    if odd:
        raise ModelError(f"{name} ({kind}) has a configuration with {odd[0]}; expected one number for all blocks.")


def _refuse_unsafe_weights(path: Path, options: LoadOptions) -> None:
    if any(path.glob("*.safetensors")):
        return
    pickled = sorted(file.name for pattern in PICKLED for file in path.glob(pattern))
    if pickled and not options.allow_pickle:
        raise ModelError(
            f"{path} has only pickled weights ({pickled[0]}), which can run code when read. Convert them to "
            "safetensors, or pass --allow-pickle if you trust them."
        )
    if not pickled:
        raise ModelError(f"{path} has no weights: expected model.safetensors or its shards beside config.json.")


def _refuse_invented_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Transformers makes up an empty tokenizer, for some families, where the files of one are missing."""
    tokens = tokenizer("abc ABC 123", add_special_tokens=False)["input_ids"]
    if set(tokens) <= set(tokenizer.all_special_ids):
        raise ModelError(f"{name} has no tokenizer: expected tokenizer.json, or its kin, beside config.json.")


def _refuse_invented_weights(name: str, model: Any, missing: Iterable[str]) -> None:
    """Transformers draws at random what a checkpoint lacks; a random unembedding alone is taken away instead."""
    unembedding = model.get_output_embeddings()
    own = {key for key, module in model.named_modules() if unembedding is not None and module is unembedding}
    invented = sorted(missing)
    lost = [key for key in invented if key.rpartition(".")[0] not in own]
    if lost:
        raise ModelError(
            f"{name} lacks {len(lost)} of the weights that its config.json asks for, such as {lost[0]}. Check that the "
            "configuration belongs to these weights, and that no shard is missing."
        )
    if invented:
        model.set_output_embeddings(None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own bars and remarks: progress is ours to show, and what matters is an error."""
    shown, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if shown:
            transformers_logging.enable_progress_bar()


@contextmanager
def _no_conversion() -> Iterator[None]:
    """Without the service that transformers asks to convert pickled weights: it opens a pull request at the model's."""
    variable = "DISABLE_SAFETENSORS_CONVERSION"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


@contextmanager
def _readable_errors(name: str, options: LoadOptions) -> Iterator[None]:
    """One line instead of a traceback for everything a person can mend."""
    try:
        yield
    except ThalwegError:
        raise
    except Exception as error:  # the files are anyone's, and so are the kinds of error they cause
        raise ModelError(_explanation(name, options, error)) from error


def _explanation(name: str, options: LoadOptions, error: BaseException) -> str:
    """What went wrong and what to do, from the kinds of error underneath and, failing that, their words."""
    chain, text = list(_causes(error)), str(error)
    revision = options.revision or "main"

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    if among(hub.GatedRepoError) or "gated repo" in text:
        return f"{name} is gated: ask for access on its hub page, then run `hf auth login` or set HF_TOKEN."
    if among(hub.RevisionNotFoundError) or "not a valid git identifier" in text:
        return f"{name} has no revision {revision!r}. See its branches and tags on the hub."
    if among(hub.RepositoryNotFoundError) or "not a valid model identifier" in text:
        return f"{name} is neither a directory nor a model on the hub. Check the spelling; a private one needs a token."
    if "trust_remote_code" in text:
        return f"{name} comes with its own code, which is not run. Pass --trust-remote-code if you trust it."
    if "the backend tokenizer" in text:
        return f"{name} cannot be loaded: expected tokenizer.json, or its kin, beside config.json."
    if among(hub.HFValidationError):
        return f"{name!r} is neither a directory nor a hub id such as openai-community/gpt2."
    if among(MemoryError, torch.OutOfMemoryError):
        return f"{name} does not fit into memory. Pass --device-map auto, or another --dtype."
    if among(hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, ConnectionError) or "connect" in text.lower():
        return (
            f"the hub cannot be reached and {name} ({revision}) is not in the local cache. Check the connection "
            "(HF_HUB_OFFLINE=1 forbids it), or give a local directory."
        )
    if "safetensors" in text and "does not appear to have a file" in text:
        return f"{name} has no safetensors weights. Pass --allow-pickle to read pickled ones if you trust them."
    if among(SafetensorError):
        return f"the weights of {name} are damaged ({text}). Fetch them again."
    if among(UnpicklingError):
        return f"the pickled weights of {name} hold more than tensors, or are damaged; they are not read."
    if "ignore_mismatched_sizes" in text:
        return f"{name} has weights of other shapes than its config.json says. Check that they belong together."
    return f"{name} cannot be loaded: {shorten(text, 300, placeholder=' ...') or type(error).__name__}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _identity_of_directory(path: Path) -> str:
    """sha256 over name, size and content of every weight file; of a large one its header and evenly spaced pieces."""
    digest = hashlib.sha256()
    files = sorted(path.glob("*.safetensors")) or sorted(f for pattern in PICKLED for f in path.glob(pattern))
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        starts = range(0, size, PIECE) if size <= HASHED_WHOLE else range(0, size, size // PIECES)
        with file.open("rb") as opened:
            for start in starts:
                opened.seek(start)
                digest.update(opened.read(PIECE))
    return f"sha256:{digest.hexdigest()}"


def _identity_of_configuration(config: Any, tokenizer: Any) -> str:
    """sha256 over what makes other numbers of the same weights: the configuration and the tokenizer."""
    settings = {name: value for name, value in config.to_dict().items() if name not in INCIDENTAL}
    fast = getattr(tokenizer, "backend_tokenizer", None)
    words = fast.to_str() if fast is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    text = json.dumps(settings, sort_keys=True, default=str) + words + str(tokenizer.special_tokens_map)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _identity_on_hub(name: str, commit: str | None, options: LoadOptions) -> str:
    """The hub's blob id, a hash of the content, of the weights; of several shards a hash over theirs."""
    readable = HUB_WEIGHTS if options.allow_pickle else HUB_WEIGHTS[:1]
    blobs = _cached_blobs(name, commit, readable) or _listed_blobs(name, commit, readable)
    if len(blobs) == 1:
        return f"blob:{next(iter(blobs.values()))}"
    listed = "".join(f"{file}\0{blob}\0" for file, blob in sorted(blobs.items()))
    return f"blobs:{hashlib.sha256(listed.encode()).hexdigest()}" if blobs else f"commit:{commit}"


def _cached_blobs(name: str, commit: str | None, readable: Sequence[str]) -> dict[str, str]:
    """Blob ids of the weight files in the local cache; none unless every one of them is there."""
    for whole in readable:
        index = try_to_load_from_cache(name, f"{whole}.index.json", revision=commit)
        shards = [whole]
        if isinstance(index, str):
            shards = sorted(set(json.loads(Path(index).read_bytes())["weight_map"].values()))
        cached = {shard: try_to_load_from_cache(name, shard, revision=commit) for shard in shards}
        found = {shard: Path(path).resolve().name for shard, path in cached.items() if isinstance(path, str)}
        if len(found) == len(shards):
            return found
    return {}


def _listed_blobs(name: str, commit: str | None, readable: Sequence[str]) -> dict[str, str]:
    """The same from the hub's own list of files."""
    siblings = HfApi().model_info(name, revision=commit, files_metadata=True).siblings or []
    blobs = {one.rfilename: one.lfs.sha256 if one.lfs else one.blob_id for one in siblings}
    for whole in readable:
        stem, _, end = whole.partition(".")
        sharded = f"{whole}.index.json" in blobs
        wanted = [file for file in blobs if (fnmatch(file, f"{stem}-*-of-*.{end}") if sharded else file == whole)]
        if wanted:
            return {file: blob for file in wanted if (blob := blobs[file])}
    return {}
