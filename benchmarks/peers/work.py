"""One library's work, in its own environment: ``python -m benchmarks.peers.work JOB RESULT``, both of them JSON."""

import json
import sys
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.measured import peak, rounds, versions
from benchmarks.peers.ways import WAYS, Way, plain

PACKAGES = ("thalweg", "nnsight", "transformer-lens", "torch", "transformers")


def worked(job: dict) -> dict:
    """Time a way beside the plain forward pass of the same environment, and tell what it found and needed."""
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
    way = WAYS[job["way"]](model)
    done = [_task(model, way, job["runs"], *map(task.get, ("batches", "texts", "prompts"))) for task in job["tasks"]]
    return {"versions": versions(*PACKAGES), "tasks": done}


def _task(model: Any, way: Way, runs: int, batches: list, texts: list[str], prompts: list[list[int]]) -> dict:
    padded = [torch.tensor(batch) for batch in batches]
    plain(model, padded[:1])
    way(texts[:1], prompts[:1])  # what a library loads late is loaded
    above, found = [], []
    ways = {"plain": partial(plain, model, padded), "way": partial(way, texts, prompts)}
    taken = rounds(ways, runs, warm=lambda run: above.append(peak(lambda: found.append(run()))))
    sinks, entropies = found[-1]
    return {
        "seconds": {name: [astuple(one) for one in each] for name, each in taken.items()},
        "above": above,
        "sinks": sinks.tolist(),
        "entropies": entropies.tolist(),
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(worked(json.loads(Path(sys.argv[1]).read_text()))))
