"""What checkpoints reach and when the phenomena emerge, as tables of a run."""

import polars as pl

from thalweg import averages
from thalweg.store import RunWriter, open_experiment, open_run

NAME = "checkpoints"


def write_emergence(writer: RunWriter) -> None:
    """Make ``checkpoints/`` anew from the run's profile: curves over training, and where each phenomenon emerges.

    Cheap enough to follow every measurement of a training. Nothing is written before there is a profile.

    Args:
        writer: of the run; its profile is written.

    Raises:
        RunError: the directory cannot be written.
    """
    run = open_run(writer.path)
    if "profile" in run.missing:
        return
    sizes = pl.DataFrame(
        [(one.name, one.revision, one.parameters) for one in writer.header.models],
        schema={"model": pl.String, "revision": pl.String, "parameters": pl.Int64},
        orient="row",
    )
    curves = averages.checkpoint_curves(run.profile.collect())
    emerged = averages.emergence(curves)
    curves = curves.join(sizes, on=["model", "revision"], how="left", maintain_order="left")
    with open_experiment(writer.path, writer.header, NAME, {}, holding=writer) as experiment:
        experiment.write_table("curves", curves)
        experiment.write_table("emergence", emerged)
        experiment.update(status="finished")
