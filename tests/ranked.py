"""What each process that torchrun has started does in ``test_ranks.py``: commands, then a model in memory, then an end.

The working directory holds ``llama``, a model, and ``texts.txt``; runs and ``copies-RANK`` are left there.
"""

import sys
from pathlib import Path
from unittest.mock import patch

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.distributed.configuration_utils import DistributedConfig

import thalweg
from thalweg import ranks
from thalweg.cli import main
from thalweg.experiments._survey import measure

TEXTS = [f"{row} bottles of water on the wall " * (1 + row % 2) for row in range(3)]
LIMIT = ("--limit", "2")


def command(*argv: str) -> None:
    try:
        with patch.object(sys, "argv", ["thalweg", *argv]):
            main()
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(argv) from ended


def commands() -> None:
    command("verify", "llama")
    command("survey", "llama", "--data", "texts.txt", "--out", "llama-run")
    command("survey", "planted", "--out", "planted-run", *LIMIT)
    command("attribute", "planted-run", *LIMIT)
    command("ablate", "planted-run", "--seeds", "1", *LIMIT)
    command("heads", "planted-run", "--blocks", "2")


def in_memory(model: torch.nn.Module) -> None:
    tokenizer = AutoTokenizer.from_pretrained("llama")
    thalweg.survey(model, TEXTS, tokenizer=tokenizer, out="given-run", progress=False)


def fail(*_: object) -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


if __name__ == "__main__":
    commands()
    in_memory(AutoModelForCausalLM.from_pretrained("llama", distributed_config=DistributedConfig(tp_plan="auto")))
    Path(f"copies-{ranks.rank()}").write_text("\n".join(map(str, ranks._copies.values())))
    ranks.PATIENCE = 0.5
    if ranks.rank() == 1:
        measure.measure_batch = fail
    sys.argv = ["thalweg", "survey", "llama", *LIMIT, "--out", "failed-run"]
    main()
