"""A training that is small, and that notices whatever touches it: dropout, shuffled data, three random generators."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from saved import VOCABULARY, llama
from thalweg.monitor import Monitor, MonitorOptions
from thalweg.reference import byte_tokenizer
from thalweg.store import AGGREGATES, open_run

TEXTS = [
    "Seven bottles of water stand on the wall.",
    "One is taken and passed around, so six are left on it.",
    "How many are left after another one is gone?",
]
ACCUMULATED = 2
TOKENIZER = byte_tokenizer()
OPTIONS = MonitorOptions(every=2, max_length=32, strict=True)

Look = Callable[[nn.Module, int], Any]


def model() -> Any:
    """A Llama of two blocks in training mode; attention drops out."""
    return llama(attention_dropout=0.2).train()


def sequences(count: int = 48, length: int = 16) -> torch.Tensor:
    """Random tokens."""
    return torch.randint(0, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(1))


def seed() -> None:
    """All three generators that a training may draw from."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the generator that trainings draw from
    torch.manual_seed(0)


@dataclass(frozen=True)
class Ending:
    """All that a training leaves behind."""

    weights: list[torch.Tensor]
    optimizer: list[Any]
    losses: list[float]
    generators: list[Any]

    def assert_equals(self, other: "Ending") -> None:
        """Bit for bit."""
        for name in ("weights", "optimizer", "generators"):
            mine, theirs = getattr(self, name), getattr(other, name)
            assert len(mine) == len(theirs) > 0, name
            assert [same(*pair) for pair in zip(mine, theirs, strict=True)] == [True] * len(mine), name
        assert self.losses == other.losses


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, also where it is NaN."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and same(one.numpy(), other.numpy())
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def generators() -> list[Any]:
    """Their states."""
    return [random.getstate(), np.random.get_state(), torch.get_rng_state()]  # noqa: NPY002 - as above


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that training does not change; of a sharded one, this process's part."""
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local.detach().clone()


def ending(model: nn.Module, optimizer: torch.optim.Optimizer, losses: list[float]) -> Ending:
    """What there is now."""
    states = [plain(value) for state in optimizer.state.values() for value in state.values()]
    return Ending([plain(one) for one in model.parameters()], states, losses, generators())


def train(trained: nn.Module, look: Look | None = None, *, steps: int = 5, between: Look | None = None) -> Ending:
    """A plain loop: AdamW, clipping, two batches a step, data in an order drawn anew for each."""
    seed()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=3e-3)
    data, losses = sequences(), list[float]()
    for step in range(1, steps + 1):
        for part in range(ACCUMULATED):
            rows = torch.randperm(len(data))[:4]
            noisy = data[rows].clone()
            noisy[:, random.randrange(16)] = int(np.random.randint(VOCABULARY))  # noqa: NPY002 - as above
            loss = trained(input_ids=noisy, labels=noisy).loss
            (loss / ACCUMULATED).backward()
            losses.append(loss.item())
            if between is not None:
                between(trained, ACCUMULATED * step + part)
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if look is not None:
            look(trained, step)
    return ending(trained, optimizer, losses)


def record_steps(path: Any) -> list[int]:
    """Steps that a run holds rows of."""
    revisions = open_run(path).layers.select("revision").unique().collect()["revision"]
    return sorted(int(revision.removeprefix("step")) for revision in revisions)


def monitor(path: Any, *, texts: Any = TEXTS, **options: Any) -> Monitor:
    """A strict one, of three short prompts."""
    settings = MonitorOptions(**{"every": 1, "max_length": 32, "strict": True} | options)
    return Monitor(TOKENIZER, out=path, prompts=texts, options=settings)


def tables(path: Any) -> dict[str, pl.DataFrame]:
    """All that a run's tables say, without what differs from one session to the next."""
    run = open_run(path)
    found = {name: getattr(run, name).collect() for name in ("layers", "heads", "massive", "prompts", *AGGREGATES)}
    [experiment] = run.experiments("checkpoints")
    return found | {name: experiment.table(name).collect() for name in ("curves", "emergence")}
