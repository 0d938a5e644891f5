"""A run with multiple choice made up from known numbers: what is drawn and said can be told."""

import math

import polars as pl
from tests.synthetic_run import PLANTED, add_findings, header

from thalweg.experiments import tables_of
from thalweg.store import open_run

LENS = {"lens": "logit", "final_norm": True}
RISING = (0.2, 0.22, 0.24, 0.23, 0.26, 0.3, 0.4, 0.55, 0.5)
FLAT = (0.25, 0.24, 0.26, 0.25, 0.24, 0.25, 0.26, 0.25, 0.25)
ERROR = 0.02


def row(task, state, metric, value, **more):
    """One score of a task with four options."""
    own = {"model": PLANTED.name, "revision": "main", "lens": "logit", "task": task, "group": False, "shots": 0}
    numbers = {"state": state, "metric": metric, "value": value, "stderr": ERROR, "n": 400, "chance": 0.25}
    return {**own, **numbers, "truncated": 0, "version": "1.0", "reason": None, **more}


def with_mcq(path, scores=None, *, settings=None):
    """A run with two tasks: one rises with depth, one stays at chance."""
    made = {("rising", "acc"): RISING, ("rising", "acc_norm"): FLAT, ("level", "acc"): FLAT}
    rows = scores or [
        row(task, state, metric, value) for (task, metric), own in made.items() for state, value in enumerate(own)
    ]
    asked = {"model": PLANTED.name, "revision": "main", "tasks": ["rising", "level"], "max_length": 2048, **LENS}
    asked, by = {**asked, **(settings or {})}, {"versions": {"lm-eval": "0.4.13"}}
    with add_findings(path, header((PLANTED,), ()), "mcq", asked, joins="models", **by) as writer:
        writer.write_table("scores", pl.DataFrame(rows, schema=tables_of("mcq")["scores"].schema))
        writer.update(status="finished")
    return open_run(path)


def grouped():
    """A group of fourteen tasks, and its average."""
    every = [row(f"part_{number:02}", state, "acc", 0.3) for number in range(14) for state in range(9)]
    return every + [row("whole", state, "acc", value, group=True, n=5600) for state, value in enumerate(RISING)]


def undefined():
    """States without a score at the end, and a metric that is no accuracy."""
    lost = {"value": math.nan, "stderr": math.nan, "reason": "log-likelihoods of odd are not numbers"}
    return [row("odd", state, "acc", 0.3, chance=math.nan) | (lost if state > 6 else {}) for state in range(9)]
