"""Texts whose class a state tells, and a run in which that was found out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tests.synthetic_run import PLANTED, add_findings, build_run, header

from thalweg.store import Run, open_run

WORDS = ("good", "bad")


def films(path: Path, count: int, seed: int, *, shuffled: bool = False) -> str:
    """Write texts with a word that tells the class, or with classes that nothing tells."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 2, count)
    labels = rng.permutation(classes) if shuffled else classes
    names = rng.integers(0, 100, count)
    records = [
        {"text": f"film {name} {WORDS[kind]} " + WORDS[kind] * 3, "label": int(label)}
        for name, kind, label in zip(names, classes, labels, strict=True)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def questions(path: Path, count: int, seed: int) -> str:
    """Write questions with three or four options of which the right one has its own word."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(count):
        size = 3 + number % 2
        answer = int(rng.integers(0, size))
        choices = [
            {"text": "good" * 3 if place == answer else "bad" * 3, "label": "ABCD"[place]} for place in range(size)
        ]
        records.append({"question": {"stem": f"{number}?", "choices": choices}, "answerKey": "ABCD"[answer]})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def with_probe(
    path: Path,
    model: Any = PLANTED,
    *,
    data: str = "films",
    survey: bool = True,
    unconverged: tuple[int, ...] = (),
    **changes: Any,
) -> Run:
    """A surveyed run with probes made up so that accuracy rises to a state and falls again."""
    if not (path / "run.json").exists():
        build_run(path)
    shown = header((model,)) if survey else header((model,)).model_copy(update={"data": ()})
    settings = {"model": model.name, "revision": model.revision, "classifier": "linear", "learning_rate": 5e-4}
    settings |= {"epochs": 1, "batch": 32, "seed": 123, "pooling": "mean", "pair": False, "standardize": False}
    settings |= changes
    key = {"model": model.name, "revision": model.revision, "data": data}
    with add_findings(path, shown, "probe", settings, joins="models") as writer:
        answers = [{**key, **one} for one in answer_rows(model.blocks)]
        writer.write_table("answers", pl.DataFrame(answers))
        writer.write_table("splits", pl.DataFrame([{**key, **one} for one in split_rows()]))
        rows = [{**key, **one} for one in accuracy_rows(model.blocks)]
        if unconverged:
            rows = [row | {"converged": row["state"] not in unconverged} for row in rows]
        writer.write_table("accuracy", pl.DataFrame(rows))
        writer.update(status="finished")
    return open_run(path)


def split_rows() -> list[dict[str, Any]]:
    """Three splits of two classes."""
    shared = {"questions": None, "skipped": "", "classes": 2, "chance": 0.5, "majority": 0.55}
    sizes = {"train": 1000, "validation": 100, "test": 200}
    return [
        {"split": name, "source": f"{name}.tsv", "rows": size, "examples": size, **shared}
        for name, size in sizes.items()
    ]


def answer_rows(blocks: int, best: int = 3, count: int = 200) -> list[dict[str, Any]]:
    """Of the test split: a state has the first so many answers right."""
    shares = [0.85 - 0.05 * abs(state - best) for state in range(blocks + 1)]
    return [
        {"split": "test", "row": row, "right": [row < round(share * count) for share in shares]} for row in range(count)
    ]


def accuracy_rows(blocks: int, best: int = 3) -> list[dict[str, Any]]:
    """Most at one state, 0.05 less with every state away from it; the last state of the training split undefined."""
    rows = []
    for split, top in (("train", 0.95), ("validation", 0.9), ("test", 0.85)):
        for state in range(blocks + 1):
            share = top - 0.05 * abs(state - best)
            gap = split == "train" and state == blocks
            value = {"accuracy": share, "low": share - 0.03, "high": share + 0.03, "loss": 1 - share}
            own = dict.fromkeys(value, float("nan")) if gap else value
            rows.append({"split": split, "state": state, "n": 0 if gap else 200, "converged": None, **own})
    return rows
