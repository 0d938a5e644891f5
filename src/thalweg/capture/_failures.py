"""What is not loaded, and what can go wrong with anyone's files or the hub: one line that says what to do."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any

import torch
from huggingface_hub import errors as hub
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from thalweg.capture._identity import weights_in_directory
from thalweg.capture._stored import StoredTensor
from thalweg.errors import ModelError, ThalwegError
from thalweg.ranges import ranges

SHARD = re.compile(r"-\d+-of-\d+(?=\.)")
LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
"""Settings that count what has at least a tensor each."""
WIDTHS = (
    *("hidden_size", "n_embd", "d_model", "intermediate_size", "n_inner", "ffn_dim", "vocab_size", "head_dim"),
    *("num_attention_heads", "n_head", "n_heads", "num_key_value_heads"),
)
"""Settings that some tensor has a dimension of, or of a multiple."""
PACKED = 8
"""Numbers that a quantized tensor keeps as one."""
LABELS = 2**20
"""Of a classifier, which no language model is; transformers lists them before it reads anything else."""
NUMBERED = re.compile(r"(.+?)\.(\d+)\.")
"""A tensor of one of several alike: what holds them, and which one."""
COUNTED = ("num_hidden_layers", "num_attention_heads", "hidden_size")

_log = logging.getLogger("thalweg.capture")


def refuse_other_kinds(name: str, config: Any) -> None:
    """Encoders and encoder-decoders, told by their configuration before anything large is read."""
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{name} is an encoder-decoder ({kind}); thalweg measures decoder-only models.")
    unknown = type(config) not in AutoModelForCausalLM._model_mapping and not getattr(config, "auto_map", None)
    if unknown and hasattr(config, "text_config"):
        raise ModelError(
            f"{name} ({kind}) wraps a language model ({config.text_config.model_type}) for images or sound; thalweg "
            "measures decoder-only language models. Save its language model alone, and give that directory."
        )
    if unknown:
        raise ModelError(f"{name} ({kind}) has no causal language model; thalweg measures decoder-only models.")
    built = getattr(config, "architectures", None) or ["no architecture"]
    if getattr(config, "is_decoder", None) is False and not any(name.endswith("ForCausalLM") for name in built):
        raise ModelError(f"{name} is an encoder ({built[0]}); thalweg measures decoder-only models.")
    text = config.get_text_config(decoder=True)
    if getattr(text, "is_causal", True) is False or getattr(text, "use_bidirectional_attention", None) in (True, "all"):
        raise ModelError(f"{name} ({kind}) is declared bidirectional; thalweg measures decoder-only models.")
    if hasattr(text, "num_hidden_layers") and not hasattr(text, "num_attention_heads"):
        raise ModelError(
            f"{name} ({kind}) has no attention heads, as a pure state-space model; thalweg measures decoder-only "
            "models with softmax attention, and hybrids where they have it."
        )
    odd = [f"{count} = {value!r}" for count in COUNTED if not isinstance(value := getattr(text, count, None), int)]
    if odd:
        raise ModelError(f"{name} ({kind}) has a configuration with {odd[0]}; expected one number for all blocks.")


def refuse_impossible_sizes(name: str, settings: Mapping[Any, Any], tensors: Sequence[StoredTensor]) -> None:
    """Sizes that no model of these tensors has: to build one takes all the time and memory that they ask for.

    Args:
        name: of the model, as asked for.
        settings: its configuration, and in it those of its parts.
        tensors: as they are stored; none where that is not known yet.
    """
    packed = PACKED if settings.get("quantization_config") else 1
    widest = packed * max((size for tensor in tensors for size in tensor.shape), default=0)
    most = {"num_labels": LABELS}
    if tensors:
        most |= dict.fromkeys(LAYERS, len(tensors)) | dict.fromkeys(WIDTHS, widest)
    for setting, value in settings.items():
        if isinstance(value, Mapping):
            refuse_impossible_sizes(name, value, tensors)
        elif isinstance(value, int) and value > most.get(setting, value):
            raise ModelError(
                f"{name} has a configuration with {setting} {value:,}; expected {most[setting]:,} at most, by the "
                "tensors that it comes with. Check that the configuration belongs to these weights."
            )


def refuse_unsafe_weights(path: Path, *, allow_pickle: bool) -> None:
    """Weights that can run code, and a directory without any."""
    files = [file.name for file in weights_in_directory(path)]
    pickled = [name for name in files if not name.endswith(".safetensors")]
    if pickled and not allow_pickle:
        raise ModelError(
            f"{path} has only pickled weights ({pickled[0]}), which can run code when read. Convert them to "
            "safetensors, or pass --allow-pickle if you trust them."
        )
    indexed, shards = any(path.glob("*.index.json")), [name for name in files if SHARD.search(name)]
    if shards and shards == files and len(shards) > 1 and not indexed:
        raise ModelError(
            f"{path} has {len(shards)} shards of weights and no {SHARD.sub('', shards[0])}.index.json, which says what "
            "is in which. Fetch it from where the shards came."
        )
    if not files:
        raise ModelError(f"{path} has no weights: expected model.safetensors or its shards beside config.json.")


def what_is_there(path: Path) -> str:
    """What a directory without a model holds instead, and what to give."""
    files = sorted(file.name for file in path.glob("*.gguf"))
    if files:
        return f"To measure {files[0]} name that file."
    if (path / "run.json").is_file():
        return "It is a run of thalweg; give the model that it measured."
    for kind, names in KINDS.items():
        if any((path / name).is_file() for name in names):
            return f"It holds {kind} alone; give the directory of the model that it belongs to."
    return "It is neither a run nor a model. Give the directory of a model, or a hub id."


def refuse_invented_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Transformers makes up an empty tokenizer, for some families, where the files of one are missing."""
    tokens = tokenizer("abc ABC 123", add_special_tokens=False)["input_ids"]
    if set(tokens) <= set(tokenizer.all_special_ids):
        raise ModelError(f"{name} has no tokenizer: expected tokenizer.json, or its kin, beside config.json.")


def refuse_larger_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase, config: Any) -> None:
    """Tokens without a row of the embedding. Added ones may be: those for images, say, stand in no text."""
    rows: int | None = getattr(config.get_text_config(decoder=True), "vocab_size", None)
    ordinary = set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder)
    if rows is not None and max(ordinary, default=0) >= rows:
        raise ModelError(
            f"the tokenizer of {name} has token {max(ordinary)} and the embedding {rows:,} rows, tokens 0 to "
            f"{rows - 1}. Check that the tokenizer belongs to this model."
        )


def refuse_invented_weights(name: str, model: Any, missing: Iterable[str]) -> None:
    """Transformers draws at random what a checkpoint lacks; a random unembedding alone is taken away instead."""
    unembedding = model.get_output_embeddings()
    names = {key for key, module in model.named_modules() if unembedding is not None and module is unembedding}
    invented = sorted(missing)
    lost = [key for key in invented if key.rpartition(".")[0] not in names]
    if lost:
        raise ModelError(
            f"{name} lacks {len(lost)} of the weights that its config.json asks for, such as {lost[0]}. Check that the "
            "configuration belongs to these weights, and that no shard is missing."
        )
    if invented:
        model.set_output_embeddings(None)


def mention_blocks_left_out(name: str, model: Any, unread: Iterable[str]) -> None:
    """A configuration of fewer blocks than the files hold gives a model, though not the one that was saved."""
    built, found = (
        {match.groups() for key in keys if (match := NUMBERED.match(key))} for keys in (model.state_dict(), unread)
    )
    lists = {holder for holder, _ in built}
    left = ranges(int(number) for holder, number in found - built if holder in lists)
    if left:
        _log.warning(
            "%s comes with weights of blocks %s that its configuration leaves out, and is measured without them. Check "
            "num_hidden_layers in its config.json.",
            name,
            left,
        )


def refuse_another_quantization(name: str, said: str, model: Any, dtype: torch.dtype) -> None:
    """A quantized checkpoint that transformers reads in another way than its configuration, or a person, says."""
    if getattr(model.config, "quantization_config", None) is not None and not getattr(model, "is_quantized", False):
        raise ModelError(
            f"{name} is quantized by its config.json ({said}), in a way that transformers does not know. Take "
            "quantization_config out of it if the weights are plain numbers."
        )
    if model.dtype != dtype:
        kept = str(model.dtype).removeprefix("torch.")
        raise ModelError(
            f"{name} is quantized ({said}), and transformers leaves its other weights in {kept}, as they were saved. "
            f"Pass --dtype {kept}."
        )


KINDS = {
    "a processor": ("processor_config.json", "preprocessor_config.json"),
    "a tokenizer": ("tokenizer.json", "tokenizer_config.json", "tokenizer.model"),
}
"""What else transformers saves into directories of its own."""


@contextmanager
def readable_errors(name: str, revision: str | None, quantization: str | None = None) -> Iterator[None]:
    """One line instead of a traceback for everything a person can mend."""
    try:
        yield
    except ThalwegError:
        raise
    except Exception as error:  # the files are anyone's, and so are the kinds of error they cause
        raise ModelError(_explanation(name, revision or "main", error, quantization)) from error


def _explanation(name: str, revision: str, error: BaseException, quantization: str | None) -> str:
    """What went wrong and what to do, from the kinds of error underneath and, failing that, their words."""
    chain, text = list(_causes(error)), str(error)

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in chain)

    missing = among(hub.RepositoryNotFoundError)
    if among(hub.GatedRepoError) or ("gated repo" in text and not missing):
        return f"{name} is gated: ask for access on its hub page, then run `hf auth login` or set HF_TOKEN."
    if among(hub.RevisionNotFoundError) or "not a valid git identifier" in text:
        return f"{name} has no revision {revision!r}. See its branches and tags on the hub."
    if missing or "not a valid model identifier" in text:
        return f"{name} is neither a directory nor a model on the hub. Check the spelling; a private one needs a token."
    if "trust_remote_code" in text:
        return f"{name} comes with its own code, which is not run. Pass --trust-remote-code if you trust it."
    if "GGUF" in text and "rchitecture" in text and "not supported" in text:
        return f"{name} is of an architecture that transformers does not read from GGUF ({text}) Give its safetensors."
    if "the backend tokenizer" in text:
        return f"{name} cannot be loaded: expected tokenizer.json, or its kin, beside config.json."
    if among(hub.HFValidationError):
        return f"{name!r} is neither a directory nor a hub id such as openai-community/gpt2."
    if among(MemoryError, torch.OutOfMemoryError):
        return f"{name} does not fit into memory. Pass --device-map auto, or another --dtype."
    if among(hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, ConnectionError) or "connect" in text.lower():
        return (
            f"the hub cannot be reached and {name} ({revision}) is not in the local cache. It was taken for a hub id: "
            f"check the connection (HF_HUB_OFFLINE=1 forbids it), or write ./{name} for a directory."
        )
    if "safetensors" in text and "does not appear to have a file" in text:
        return f"{name} has no safetensors weights. Pass --allow-pickle to read pickled ones if you trust them."
    if among(SafetensorError):
        return f"the weights of {name} are damaged ({text}). Fetch them again."
    if among(UnpicklingError):
        return f"the pickled weights of {name} hold more than tensors, or are damaged; they are not read."
    if "ignore_mismatched_sizes" in text:
        return f"{name} has weights of other shapes than its config.json says. Check that they belong together."
    said = shorten(text, 300, placeholder=" ...") or type(error).__name__
    if quantization is not None:
        todo = "Install what transformers needs for it, or give weights that are not quantized."
        return f"{name} is quantized ({quantization}) and transformers cannot load it here: {said.rstrip('.')}. {todo}"
    return f"{name} cannot be loaded: {said}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
