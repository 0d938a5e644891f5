"""Tiny models on disk, with a tokenizer, as a person has them."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers as tf

from thalweg.reference import byte_tokenizer

VOCABULARY = 258
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": VOCABULARY,
}


def llama(**options: Any) -> tf.LlamaForCausalLM:
    """A random Llama of two blocks, 4 heads and width 32."""
    tokens = {"bos_token_id": 256, "eos_token_id": 256, "pad_token_id": None}
    sizes = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 64}
    torch.manual_seed(0)
    model = tf.LlamaForCausalLM(tf.LlamaConfig(**{**tokens, **sizes, **options})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.mul_(3.0)
    return model


def save(model: tf.PreTrainedModel, path: Path, *, tokenizer: bool = True, **options: Any) -> str:
    """Write ``model`` beside a tokenizer of bytes; the directory's name."""
    model.save_pretrained(path, **options)
    if tokenizer:
        byte_tokenizer().save_pretrained(path)
    return str(path)


def configured(path: str | Path, **changes: Any) -> None:
    """Change a saved model's config.json."""
    file = Path(path) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
