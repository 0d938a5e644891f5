"""What is not loaded: other kinds of models, unsafe weights, and what transformers would invent."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from thalweg.capture._identity import pickled_in_directory
from thalweg.errors import ModelError

COUNTED = ("num_hidden_layers", "num_attention_heads", "hidden_size")


def refuse_other_kinds(name: str, config: Any) -> None:
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


def refuse_unsafe_weights(path: Path, *, allow_pickle: bool) -> None:
    """Weights that can run code, and a directory without any."""
    if any(path.glob("*.safetensors")):
        return
    pickled = [file.name for file in pickled_in_directory(path)]
    if pickled and not allow_pickle:
        raise ModelError(
            f"{path} has only pickled weights ({pickled[0]}), which can run code when read. Convert them to "
            "safetensors, or pass --allow-pickle if you trust them."
        )
    if not pickled:
        raise ModelError(f"{path} has no weights: expected model.safetensors or its shards beside config.json.")


def refuse_invented_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Transformers makes up an empty tokenizer, for some families, where the files of one are missing."""
    tokens = tokenizer("abc ABC 123", add_special_tokens=False)["input_ids"]
    if set(tokens) <= set(tokenizer.all_special_ids):
        raise ModelError(f"{name} has no tokenizer: expected tokenizer.json, or its kin, beside config.json.")


def refuse_invented_weights(name: str, model: Any, missing: Iterable[str]) -> None:
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
