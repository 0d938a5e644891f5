"""A training and a family of sizes, made up: massive from step 100 on, sinks with it, and larger models the deeper."""

from pathlib import Path

from tests.synthetic_run import Plant, build_run, header, open_survey

from thalweg.experiments import write_emergence
from thalweg.store import Run, open_run

TRAINED = "lab/trained"


def checkpoint(revision: str, value: float | None, *, model: str = TRAINED, blocks: int = 6) -> Plant:
    """A checkpoint with this planted value in states 2 to L - 1, or with none."""
    if value is None:
        return Plant(model, blocks, 4, revision=revision)
    return Plant(model, blocks, 4, 2, blocks - 1, (12, 40), value, sinks=(1, 3), revision=revision)


CHECKPOINTS = (
    checkpoint("main", 2000.0),
    checkpoint("step0", None),
    checkpoint("step100", 900.0),
    checkpoint("step2000", 1500.0),
    checkpoint("step10", None),
)
"""In no order."""

SIZES = {
    checkpoint("main", 1500.0, model="lab/large", blocks=12): 6_900_000_000,
    checkpoint("main", None, model="lab/small", blocks=5): 45_376,
    checkpoint("main", 900.0, model="lab/middle", blocks=8): 410_000_000,
}
"""With their numbers of parameters."""


def build_training(path: Path, models=CHECKPOINTS, data=("words",), parameters=None) -> Run:
    """Write a run with the tables of ``checkpoints``, and open it."""
    build_run(path, models, data, prompts=4)
    facts = header(models, data)
    counts = list(parameters or [1000] * len(models))
    sized = tuple(
        model.model_copy(update={"parameters": count}) for model, count in zip(facts.models, counts, strict=True)
    )
    with open_survey(path, facts.model_copy(update={"models": sized})) as writer:
        write_emergence(writer)
        writer.update(status="finished")
    return open_run(path)


def build_sizes(path: Path, **options) -> Run:
    """The same with models of several sizes."""
    return build_training(path, tuple(SIZES), parameters=SIZES.values(), **options)
