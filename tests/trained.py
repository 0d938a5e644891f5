"""A training as it lies on disk: planted models whose massive value grows from step to step, a twin first.

The MLP of block 1 writes, that of block 3 takes away: states 2 and 3 of 4 are massive, the first two heads sink in
blocks 2 and 3.
"""

from collections.abc import Iterable
from pathlib import Path

import torch

from saved import save
from thalweg.reference import Plant, planted_llama

VALUES = {0: None, 10: 20.0, 20: 200.0, 40: 2000.0}
"""By step, the planted value; None is the twin, in which nothing is planted."""


def planted(value: float | None, *, blocks: int = 4, width: int = 32):
    """A model of this training."""
    plant = Plant(1, blocks - 1, {3: value or 1.0}, (0, 1))
    return planted_llama(plant, blocks=blocks, width=width, context=256, twin=value is None)


def save_training(
    directory: Path, steps: Iterable[int] = tuple(VALUES), name: str = "checkpoint-{}", **options
) -> Path:
    """Write ``directory/checkpoint-0`` and so on."""
    for step in steps:
        save(planted(VALUES[step]), directory / name.format(step), **options)
    return directory


def diverged(path: Path) -> str:
    """A checkpoint of a training that went wrong: NaN in one matrix of block 1."""
    model = planted(60.0)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.fill_(float("nan"))
    return save(model, path)


def damage(path: Path) -> None:
    """Cut the weights short, as a disk that was full does."""
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
