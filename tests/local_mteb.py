"""Real tasks of MTEB over small data made here: their own classes and scoring, their data on this disk."""

import json
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

TOPICS = {
    "water": ("river", "valley", "stream", "flood", "bank", "boat"),
    "stars": ("moon", "orbit", "comet", "night", "planet", "sky"),
    "bread": ("flour", "oven", "yeast", "crust", "salt", "loaf"),
}


def sentence(topic: str, rng: random.Random) -> str:
    """A few words about a topic."""
    return " ".join(rng.choice(TOPICS[topic]) for _ in range(rng.randint(2, 7)))


def classified(count: int, seed: int) -> list[dict[str, Any]]:
    """Texts with the number of their topic."""
    rng = random.Random(seed)
    return [{"text": sentence(list(TOPICS)[row % 3], rng), "label": row % 3} for row in range(count)]


def paired(count: int, seed: int) -> list[dict[str, Any]]:
    """Pairs of texts, alike to some degree."""
    rng = random.Random(seed)
    rows = []
    for row in range(count):
        first, other = rng.sample(list(TOPICS), 2)
        one, alike = sentence(first, rng), row % 6
        shared = " ".join(one.split()[: 1 + alike])
        rows.append({"sentence1": one, "sentence2": f"{shared} {sentence(other, rng)}", "score": float(alike)})
    return rows


def clustered(count: int, seed: int) -> list[dict[str, Any]]:
    """One set of texts with the names of their topics."""
    rng = random.Random(seed)
    labels = [list(TOPICS)[row % 3] for row in range(count)]
    return [{"sentences": [sentence(label, rng) for label in labels], "labels": labels}]


def _written(directory: Path, splits: Mapping[str, Iterable[Mapping[str, Any]]]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (directory / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def _made(
    kind: Callable[[], Any], directory: Path, splits: Mapping[str, Iterable[Mapping[str, Any]]], **sizes: Any
) -> Any:
    """The task of this class, its data in a directory."""
    place = {
        "path": str(_written(directory, splits)),
        "revision": "made-here",
        "cache_dir": str(directory.parent / "data-cache"),
    }
    own: Any = kind
    changes = {"metadata": own.metadata.model_copy(update={"dataset": place}), "n_experiments": 2}
    local = type(own.__name__, (own,), changes | sizes)
    return local()


def similarity_task(directory: Path, rows: list[dict[str, Any]] | None = None) -> Any:
    """STS12 over 24 pairs."""
    from mteb.tasks.sts.eng.sts12_sts import STS12STS

    return _made(STS12STS, directory / "sts", {"test": paired(24, 1) if rows is None else rows})


def classification_task(directory: Path) -> Any:
    """Banking77 over 30 texts to learn from and 15 to sort."""
    from mteb.tasks.classification.eng.banking77_classification import Banking77Classification

    return _made(Banking77Classification, directory / "sorted", {"train": classified(30, 2), "test": classified(15, 3)})


def clustering_task(directory: Path) -> Any:
    """TwentyNewsgroups over 24 texts."""
    from mteb.tasks.clustering.eng.twenty_newsgroups_clustering import TwentyNewsgroupsClustering

    return _made(TwentyNewsgroupsClustering, directory / "clusters", {"test": clustered(24, 4)})


def bootstrapped_clustering_task(directory: Path) -> Any:
    """TwentyNewsgroups in its second version, which draws texts anew for every clustering."""
    from mteb.tasks.clustering.eng.twenty_newsgroups_clustering import TwentyNewsgroupsClusteringFast

    sizes = {"max_fraction_of_documents_to_embed": 0.5, "max_documents_per_cluster": 20, "n_clusters": 3}
    return _made(TwentyNewsgroupsClusteringFast, directory / "drawn", {"test": clustered(60, 4)}, **sizes)
