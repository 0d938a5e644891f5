"""Tasks of lm-eval over small data made here: its own ARC, HellaSwag and WinoGrande, and a few others, on this disk."""

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

WORDS = ("river", "valley", "stone", "moon", "bread", "night", "boat", "field", "lamp", "salt", "door", "wind")
SPLITS = {"train": "training_split", "test": "test_split"}
METRICS = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")]
ARC = {
    "doc_to_text": "Question: {{question.stem}}\nAnswer:",
    "doc_to_target": "{{'ABCDE'.find(answerKey) if answerKey in 'ABCDE' else answerKey | int - 1}}",
    "doc_to_choice": "{{question.choices | map(attribute='text') | list}}",
}
"""AI2's own files: some of them label options 1, 2, ... and answer A, B, ..."""


def _words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def questions(count: int, seed: int) -> list[dict[str, Any]]:
    """Questions with two to four options of several words."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        options = [_words(rng, rng.randint(1, 4)) for _ in range(rng.randint(2, 4))]
        rows.append({"ask": _words(rng, rng.randint(1, 6)), "options": options, "right": rng.randrange(len(options))})
    return rows


def blanks(count: int, seed: int) -> list[dict[str, Any]]:
    """WinoGrande's form: a sentence with a blank for one of two words."""
    rng = random.Random(seed)
    return [
        {
            "sentence": f"The {rng.choice(WORDS)} by the _ {_words(rng, 2)}.",
            "option1": rng.choice(WORDS),
            "option2": rng.choice(WORDS),
            "answer": rng.choice("12"),
        }
        for _ in range(count)
    ]


def endings(count: int, seed: int) -> list[dict[str, Any]]:
    """HellaSwag's form: a beginning and four endings."""
    rng = random.Random(seed)
    return [
        {
            "activity_label": rng.choice(WORDS),
            "ctx_a": f"{_words(rng, 3)}.",
            "ctx_b": _words(rng, 2),
            "endings": [f"{_words(rng, rng.randint(1, 4))}. [title] x" for _ in range(4)],
            "label": str(rng.randrange(4)),
        }
        for _ in range(count)
    ]


class Tasks:
    """A directory with tasks."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory

    def write(self, name: str, splits: Mapping[str, Iterable[Mapping[str, Any]] | Path], **config: Any) -> str:
        """A task over rows, or over files that are there."""
        files = {}
        for split, rows in splits.items():
            files[split] = str(rows if isinstance(rows, Path) else self._data(f"{name}.{split}.jsonl", rows))
        own = {
            "task": name,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files, "cache_dir": str(self.path / "cache")},
            "output_type": "multiple_choice",
            **{SPLITS[split]: split for split in files},
            "metric_list": METRICS,
            "metadata": {"version": 2.0},
            **config,
        }
        (self.path / f"{name}.yaml").write_text(yaml.safe_dump(own, sort_keys=False))
        return name

    def choice(self, name: str = "small_choice", count: int = 12, **config: Any) -> str:
        """Questions with options of several words."""
        how = {"doc_to_text": "{{ask}}?", "doc_to_target": "right", "doc_to_choice": "options"}
        splits = {"train": questions(8, 1), "test": questions(count, 2)}
        return self.write(name, splits, **{**how, **config})

    def letters(self, name: str = "letters") -> str:
        """Questions answered by one letter: all options of a question ask about one input."""
        how = {"doc_to_text": "{{ask}}?\nAnswer:", "doc_to_target": "{{right % 2}}", "doc_to_choice": ["A", "B"]}
        return self.write(name, {"test": questions(9, 3)}, **how)

    def lm_evals_own(self, name: str, file: str, rows: Iterable[Mapping[str, Any]]) -> str:
        """A task of lm-eval with all that belongs to it, over other rows."""
        import lm_eval.tasks

        own = Path(lm_eval.tasks.__file__).parent / file
        data = {"data_files": {"validation": str(self._data(f"{name}.jsonl", rows))}}
        changed = {
            "include": str(own),
            "task": name,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {**data, "cache_dir": str(self.path / "cache")},
            "training_split": None,
            "test_split": None,
        }
        (self.path / f"{name}.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
        return name

    def group(self, name: str, members: list[str]) -> str:
        """A group of tasks with an average of its own."""
        average = [{"metric": "acc", "weight_by_size": True}]
        own = {"group": name, "task": members, "aggregate_metric_list": average, "metadata": {"version": 1.0}}
        (self.path / f"{name}.yaml").write_text(yaml.safe_dump(own))
        return name

    def _data(self, file: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        (self.path / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return self.path / file
