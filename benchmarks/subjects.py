"""Models and prompts that are measured: real ones where they are at hand, else random weights and bundled prompts."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from thalweg.capture import IdentifiedModel, identify_given, identify_model, load_model
from thalweg.experiments import SurveyOptions
from thalweg.options import LoadOptions
from thalweg.prompts import Prompt, Row, open_source, tokenization, tokenize
from thalweg.reference import byte_tokenizer

WIDTH, HEADS, BLOCKS, CONTEXT = 768, 12, 12, 16384
LENGTH = 1024
SHAPE = f"random Llama of {BLOCKS} blocks, d = {WIDTH}, {HEADS} heads, float32"
QUIET = SurveyOptions(progress=False, bos="never")
BUDGET = 4096
"""Tokens of a batch, as a survey takes them on a processor."""
REAL = "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Measured:
    """A model in memory that is measured."""

    name: str
    model: Any
    tokenizer: Any


@dataclass(frozen=True)
class Task:
    """Texts, and the tokens a survey reads of them."""

    name: str
    texts: list[str]
    prompts: list[Prompt]


def random_model(vocabulary: int = 258, **sizes: int) -> LlamaForCausalLM:
    """12 blocks, d = 768, 12 heads, random weights; as many tokens as the tokenizer of bytes has."""
    torch.manual_seed(0)
    usual = {
        "hidden_size": WIDTH,
        "intermediate_size": 2048,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "vocab_size": vocabulary,
        "max_position_embeddings": CONTEXT,
    }
    return LlamaForCausalLM(LlamaConfig(**usual | sizes)).eval()


def measured_model(given: str | None) -> Measured:
    """The model that was named, else SmolLM2 where it is at hand, else random weights."""
    folders = (Path(os.environ.get("THALWEG_TEST_DATA", "")) / "models" / "smollm2", Path("models"))
    name = given or next((str(folder / REAL) for folder in folders if (folder / REAL).is_file()), None)
    if name is None:
        return Measured(SHAPE, random_model(), byte_tokenizer())
    found = identify_model(name, LoadOptions(dtype="float32"))
    return Measured(f"{Path(name).stem}, float32", load_model(found), found.tokenizer)


def data(name: str) -> Path | None:
    """A file of the test data, where it is there."""
    path = Path(os.environ.get("THALWEG_TEST_DATA", "")) / "data" / name
    return path if path.is_file() else None


def problems(count: int) -> tuple[str, list[str]]:
    """Problems of GSM8K with their answers where the test data is there, else bundled prompts."""
    if path := data("gsm8k_train.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:count]]
        return "GSM8K problems", [f"{row['question']}\n{row['answer']}" for row in rows]
    return "bundled prompts", [row.text or "" for row in open_source().rows(0, count)]


def long_texts(count: int, characters: int = 6 * LENGTH) -> list[str]:
    """Running text of more than 1,024 tokens each: WikiText-2 where the test data is there, else bundled prompts."""
    path = data("wikitext2_test.txt")
    text = path.read_text(encoding="utf-8") if path else "\n".join(problems(48)[1])
    text *= 1 + count * characters // len(text)
    return [text[first * characters :][:characters] for first in range(count)]


def tasks(tokenizer: Any, short: int, long: int) -> list[Task]:
    """Problems, and texts of 1,024 tokens."""
    name, texts = problems(short)
    return [_task(tokenizer, name, texts), _task(tokenizer, "texts", long_texts(long))]


def _task(tokenizer: Any, name: str, texts: list[str]) -> Task:
    how = tokenization(tokenizer, max_length=LENGTH)
    own = tokenize([Row(row, text) for row, text in enumerate(texts)], how).prompts
    mean = sum(map(len, own)) / len(own)
    return Task(f"{len(texts)} {name} of {mean:,.0f} tokens", texts, list(own))


def problem_texts(count: int) -> tuple[str, list[str]]:
    """Texts for a tokenizer of bytes, as many bytes long as problems have words, each of them another one."""
    name, texts = problems(count)
    lengths = [len(text.split()) for text in texts]
    return name, [chr(97 + row % 26) * (length + row) for row, length in enumerate(lengths)]


def random_prompts(lengths: Sequence[int]) -> list[Prompt]:
    """Random tokens of these lengths."""
    generator = torch.Generator().manual_seed(0)
    return [
        Prompt(row, tuple(torch.randint(0, 256, (length,), generator=generator).tolist()), "", "", truncated=False)
        for row, length in enumerate(lengths)
    ]


def identified(model: Any) -> IdentifiedModel:
    """A model of bytes in memory, as if it had been found by name."""
    return identify_given(model, byte_tokenizer(), LoadOptions())
