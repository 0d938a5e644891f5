"""What checkpoints reach and when the phenomena emerge, as tables of a run."""

import polars as pl

from thalweg import averages
from thalweg.experiments._checkpoints.tables import TABLES
from thalweg.store import FindingsWriter, open_findings

NAME = "checkpoints"


def write_emergence(writer: FindingsWriter) -> None:
    """Make ``checkpoints/`` anew from the run's profile: curves over training, and where each phenomenon emerges.

    Cheap enough to follow every measurement of a training. Nothing is written before there is a profile.

    Args:
        writer: of the survey; its profile is written.

    Raises:
        RunError: the directory cannot be written.
    """
    survey = writer.reading()
    if "profile" in survey.missing:
        return
    sizes = pl.DataFrame(
        [(model.name, model.revision, model.parameters) for model in writer.run_header.models],
        schema={"model": pl.String, "revision": pl.String, "parameters": pl.Int64},
        orient="row",
    )
    curves = averages.checkpoint_curves(survey.table("profile").collect())
    emerged = averages.emergence(curves)
    curves = curves.join(sizes, on=["model", "revision"], how="left", maintain_order="left")
    with open_findings(
        writer.path, writer.run_header, NAME, {}, TABLES, session=writer.session, holding=writer
    ) as findings:
        findings.write_table("curves", curves)
        findings.write_table("emergence", emerged)
        findings.update(status="finished")
