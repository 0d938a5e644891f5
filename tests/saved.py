"""Tiny models on disk, with a tokenizer, as a person has them."""

import hashlib
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


def in_cache(cache: Path, name: str, folder: str | Path, commit: str = "0" * 39 + "1") -> Path:
    """Put a saved model into a hub's cache as its client does: blobs by their hash, a snapshot of links, and main."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot, blobs, refs = repository / "snapshots" / commit, repository / "blobs", repository / "refs"
    for place in (snapshot, blobs, refs):
        place.mkdir(parents=True)
    (refs / "main").write_text(commit)
    for file in Path(folder).iterdir():
        content = file.read_bytes()
        blob = blobs / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / file.name).symlink_to(blob)
    return snapshot


def configured(path: str | Path, **changes: Any) -> None:
    """Change a saved model's config.json."""
    file = Path(path) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
