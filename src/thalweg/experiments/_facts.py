"""What a run says about itself: models, data, packages, machine."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from thalweg.capture import IdentifiedModel, Subject, positions_of
from thalweg.prompts import Source, Tokenization
from thalweg.reference import how_planted
from thalweg.store import DataFacts, ModelFacts

PACKAGES = (
    "thalweg",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "polars",
    "numpy",
)


def model_facts(model: IdentifiedModel, how: Tokenization) -> ModelFacts:
    """What is known of a model before its weights are loaded."""
    config = model.config.get_text_config(decoder=True)
    return ModelFacts(
        name=model.name,
        revision=model.revision,
        commit=model.commit,
        weights=model.weights,
        configuration=model.configuration,
        dtype=model.dtype,
        blocks=config.num_hidden_layers,
        heads=config.num_attention_heads,
        width=config.hidden_size,
        bos=how.bos.policy,
        bos_token=how.bos.token,
        planted=how_planted(model.name),
    )


def learned_facts(facts: ModelFacts, subject: Subject, blocks: tuple[int, ...]) -> ModelFacts:
    """The same with what only the loaded model tells; ``blocks`` are those with softmax attention."""
    return facts.model_copy(
        update={
            "attention": subject.path,
            "positions": positions_of(subject.model).kind,
            "parameters": subject.model.num_parameters(),
            "softmax_blocks": None if len(blocks) == facts.blocks else blocks,
        }
    )


def data_facts(source: Source) -> DataFacts:
    """What identifies the data."""
    return DataFacts(name=source.name, hash=source.hash, template=source.template)


def versions(*packages: str) -> dict[str, str]:
    """Versions of the packages that numbers depend on: those of every experiment, and ``packages``."""
    known = {"python": platform.python_version()}
    for package in (*PACKAGES, *packages):
        try:
            known[package] = version(package)
        except PackageNotFoundError:  # a checkout that was never installed
            continue
    return known


def hardware() -> dict[str, Any]:
    """The machine: processor, cores in use, accelerators."""
    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        facts["cuda"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return facts
