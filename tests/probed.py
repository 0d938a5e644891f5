"""Texts whose class a state tells, and a run in which that was found out."""

import json
from pathlib import Path

import numpy as np

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
