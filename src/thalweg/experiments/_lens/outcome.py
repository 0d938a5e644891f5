"""What is told of a lens that was read, or trained."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from thalweg.experiments._declared import Experiment, Outcome, sections_of
from thalweg.experiments._declared import outcome as read
from thalweg.experiments._lens.tables import trained_lens
from thalweg.store import Findings, open_run


def outcome(experiment: Experiment, findings: Findings, asked: Mapping[str, Any]) -> Outcome:
    """Tell what the states predict; of a training where the lens is, and how far it came."""
    if findings.header.experiment == experiment.name:
        return read(experiment, findings, asked)
    losses, run = findings.table("training").collect(), open_run(findings.run)
    ends = losses.filter((pl.col("step") == 0) | (pl.col("step") == pl.col("step").max()))
    told = {
        "lens": str(trained_lens(findings)),
        "settings": findings.header.settings,
        "training": ends.to_dicts(),
    }
    return Outcome(told, run, sections_of(experiment, run, findings.header.key))
