"""Every experiment on a tiny model, in a process of its own that can be killed."""

import json
import multiprocessing
import time
from pathlib import Path

from tests import local_mteb
from tests.local_mcq import Tasks
from tests.probed import films

import thalweg
from saved import save
from thalweg.reference import Plant, planted_llama

NAMES = ("survey", "checkpoints", "contrast", "attribute", "ablate", "clip", "lens", "mcq", "probe", "mteb")
OPTIONS = thalweg.SurveyOptions(progress=False, shard_rows=4, batch_size=2)


def prepare(place: Path) -> None:
    """Write models and data."""
    for name, height in {"model": 2000.0, "trained/checkpoint-1": 2.0, "trained/checkpoint-20": 900.0}.items():
        save(planted_llama(Plant(1, 2, {3: height}, (0, 1)), blocks=4, width=32), place / name)
    texts = [{"text": f"{row} green bottles, " * (1 + row % 4)} for row in range(24)]
    (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    Tasks(place / "tasks").choice()
    films(place / "films.jsonl", 60, 1)


def perform(name: str, place: Path, out: Path) -> None:
    """Run one experiment."""
    model, prompts = place / "model", place / "prompts.jsonl"
    if name == "checkpoints":
        thalweg.checkpoints(checkpoint_dir=place / "trained", data=prompts, out=out, options=OPTIONS)
    elif name == "contrast":
        thalweg.contrast(model, prompts, length=16, out=out, options=OPTIONS)
    elif name == "mcq":
        thalweg.mcq(model, ["small_choice"], include_path=place / "tasks", out=out, options=OPTIONS)
    elif name == "probe":
        thalweg.probe(model, place / "films.jsonl", out=out, options=OPTIONS)
    elif name == "mteb":
        thalweg.mteb(model, [local_mteb.similarity_task(place / "mteb")], out=out, options=OPTIONS)
    else:
        getattr(thalweg, name)(model, prompts, out=out, options=OPTIONS)


def child(name: str, place: Path, out: Path) -> multiprocessing.Process:
    """Start an experiment; what it needs is imported already, but nothing of it has run."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.killed", "transformers.models.llama.modeling_llama", "mteb", "lm_eval.tasks"])
    process = server.Process(target=perform, args=(name, place, out))
    process.start()
    return process


def seconds(name: str, place: Path, out: Path) -> float:
    """Run an experiment to its end, in its own process."""
    started = time.monotonic()
    process = child(name, place, out)
    process.join(300)
    assert process.exitcode == 0, f"{name} ended with {process.exitcode}"
    return time.monotonic() - started
