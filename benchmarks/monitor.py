"""What the monitor adds to a training at its default interval, which is its share of the time.

Seconds of a measurement over seconds of a training step, timed in turn, for as small a Llama as is trained, on batches
of 16 sequences of 256 tokens. The run holds some measurements already, as it does in a training: what there is to sum
up grows with them, slowly.
"""

import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.measured import RATIOS, Asked, Seconds, Table, median_cells, ratio_cells, rounds
from thalweg.monitor import Monitor, MonitorOptions
from thalweg.reference import byte_tokenizer

MEASURED_BEFORE = 5


def tables(asked: Asked) -> list[Table]:
    """The share, and a measurement over a training step."""
    options, trained, steps = MonitorOptions(strict=True), small_model(), count()
    with tempfile.TemporaryDirectory() as folder:
        monitor = Monitor(byte_tokenizer(), out=Path(folder) / "run", options=options)

        def measure() -> None:
            monitor.measure(trained, next(steps))

        for _ in range(MEASURED_BEFORE - 1):  # and one more in the round that is not counted
            measure()
        taken = rounds({"measurement": measure, "step": training(trained)}, asked.runs)
        monitor.finish()
    table = Table("Llama of 8 blocks, d = 128, 1.7 million weights", ("comparison", *RATIOS, "target"))
    share = [cell for kind in ("cpu", "wall") for cell in median_cells(_shares(taken, kind, options.every), "{:.2%}")]
    table.rows.append((f"share of a training that is measured every {options.every} steps", *share, "below 2%"))
    table.rows.append(("measurement / training step", *ratio_cells(taken["measurement"], taken["step"]), ""))
    return [table]


def _shares(taken: dict[str, list[Seconds]], kind: str, every: int) -> list[float]:
    pairs = zip(taken["measurement"], taken["step"], strict=True)
    costs = [(getattr(measured, kind), every * getattr(step, kind)) for measured, step in pairs]
    return [cost / (cost + steps) for cost, steps in costs]


def training(trained: LlamaForCausalLM) -> Callable[[], None]:
    """One step of a training."""
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        batch = torch.randint(0, 256, (16, 256), generator=generator)
        trained(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def small_model() -> LlamaForCausalLM:
    """8 blocks, d = 128, 4 heads: 1.7 million weights, as small as a model in training gets."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=1024,
        max_position_embeddings=512,
        attention_dropout=0.1,
    )
    return LlamaForCausalLM(config).train()
