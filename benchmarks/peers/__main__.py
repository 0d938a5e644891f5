"""The sink score of every head and the entropy of every state, by each library in turn: ``make bench-peers``.

    make bench-peers                                   # SmolLM2 by its package; 30 problems, 8 texts of 1,024 tokens
    python -m benchmarks.peers --problems 4 --texts 1 --runs 1 --only thalweg nnsight

Every library is timed beside a plain forward pass (SDPA, body without unembedding and cache, on the batches that a
survey makes) in its own environment. Only a run of all is written to ``docs/benchmarks/peers.json``.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.measured import RATIOS, Seconds, Table, at_least_one, command, print_table, ratio_cells, write_result
from benchmarks.peers.environments import Missing, interpreter, stored
from benchmarks.peers.ways import WAYS
from benchmarks.subjects import BUDGET, Task, measured_model, tasks
from thalweg.capture._kept import cache_directory
from thalweg.errors import ThalwegError
from thalweg.prompts import batches, padded

ROOT = Path(__file__).resolve().parents[2]
OURS = "thalweg"
PARTS = {
    "sink score": ("sinks", slice(None)),
    "entropy, states before the last": ("entropies", slice(-1)),
    "entropy, last state": ("entropies", slice(-1, None)),
}


def main() -> None:
    """Run the libraries and print what they took and found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=at_least_one, default=3, help="rounds that are counted")
    parser.add_argument("--problems", type=at_least_one, default=30, help="problems of GSM8K")
    parser.add_argument("--texts", type=at_least_one, default=8, help="texts of 1,024 tokens")
    parser.add_argument("--model", help="a directory or a GGUF file; SmolLM2 where it is at hand")
    parser.add_argument("--only", choices=WAYS, nargs="+", default=list(WAYS), help="libraries")
    parser.add_argument("--environments", type=Path, default=cache_directory() / "bench", help="where they are kept")
    asked = parser.parse_args()
    try:
        measured = measured_model(asked.model)
    except ThalwegError as error:
        parser.error(str(error))
    work = tasks(measured.tokenizer, asked.problems, asked.texts)
    folder = stored(measured, asked.environments / "models")
    job = {"model": str(folder), "runs": asked.runs, "tasks": [_described(task) for task in work]}
    done = {name: _worked(name, job, asked.environments) for name in asked.only}
    tables = [make(task.name, number, done) for number, task in enumerate(work) for make in (costs, numbers)]
    tables.append(
        Table("What ran", ("library", "versions"), [(name, found["versions"]) for name, found in done.items()])
    )
    for table in tables:
        print_table(table)
    if list(asked.only) == list(WAYS):
        facts = {"model": measured.name, "threads": torch.get_num_threads(), "rounds": asked.runs}
        ran = command("benchmarks.peers", parser, vars(asked), "runs", "problems", "texts")
        write_result("peers", tables, **facts, command=ran)


def _described(task: Task) -> dict:
    made = [padded(batch).tolist() for batch in batches(task.prompts, token_budget=BUDGET)]
    return {"texts": task.texts, "prompts": [list(prompt.tokens) for prompt in task.prompts], "batches": made}


def _worked(name: str, job: dict, environments: Path) -> dict:
    """What a library took and found; of one that cannot be installed or fails, why."""
    with tempfile.TemporaryDirectory() as folder:
        asked, result = Path(folder) / "job.json", Path(folder) / "result.json"
        asked.write_text(json.dumps({**job, "way": name}))
        try:
            python = interpreter(name, environments)
        except Missing as error:
            return {"versions": f"cannot be installed: {error}", "tasks": None}
        sys.stderr.write(f"{name} ...\n")
        run = [str(python), "-m", "benchmarks.peers.work", str(asked), str(result)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        ran = subprocess.run(run, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        if ran.returncode:
            said = re.findall(r"^[\w.]+: .+", ran.stderr, re.MULTILINE) or [f"it ended with {ran.returncode}"]
            return {"versions": f"failed: {said[-1]}", "tasks": None}
        return json.loads(result.read_text())


def costs(title: str, number: int, done: dict[str, dict]) -> Table:
    """What each library took for one task, over the plain forward pass beside it."""
    table = Table(f"{title}: cost over the plain forward pass", ("library", *RATIOS, "memory, GB", "memory, plain, GB"))
    for name, found in done.items():
        if found["tasks"] is None:
            table.rows.append((name, "see below", *[""] * (len(table.columns) - 2)))
            continue
        task = found["tasks"][number]
        plain, way = ([Seconds(*one) for one in task["seconds"][what]] for what in ("plain", "way"))
        above = [f"{amount / 1e9:.2f}" for amount in reversed(task["above"])]
        table.rows.append((name, *ratio_cells(way, plain), *above))
    return table


def numbers(title: str, number: int, done: dict[str, dict]) -> Table:
    """What each library found for one task: means, and the largest difference of a head or state from ours."""
    table = Table(f"{title}: what was found", ("library", *(column for what in PARTS for column in (what, "off by"))))
    known = {name: found["tasks"][number] for name, found in done.items() if found["tasks"]}
    for name, task in known.items():
        cells = []
        for key, part in PARTS.values():
            mine, ours = (torch.tensor(one[key], dtype=torch.float64)[part] for one in (task, known.get(OURS, task)))
            cells += [f"{mine.mean():.6f}", f"{(mine - ours).abs().max():.0e}" if name != OURS else ""]
        table.rows.append((name, *cells))
    return table


if __name__ == "__main__":
    main()
