"""What checkpoints reach and when the phenomena emerge, as tables of a run."""

import polars as pl

from thalweg import metrics
from thalweg.store import FindingsWriter, open_findings, tables_of

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
    curves = metrics.checkpoint_curves(survey.table("profile").collect())
    emerged = metrics.emergence(curves)
    curves = curves.join(sizes, on=["model", "revision"], how="left", maintain_order="left")
    header, tables, session = writer.run_header, tables_of(NAME), writer.session
    with open_findings(writer.path, header, NAME, {}, tables, session=session, holding=writer) as findings:
        findings.write_table("curves", curves)
        findings.write_table("emergence", emerged)
        findings.update(status="finished")
