"""How do the states of a model do in other people's benchmarks? Their tasks, prompts and scoring, called as they are.

This room stands beside :mod:`thalweg.interventions` and its neighbours and below :mod:`thalweg.experiments`: it is told
how to embed or to answer, and reads no model itself. Each harness is imported in one file, and only when it is asked
for.

In reading order: ``_mteb`` MTEB, every state as an embedding · ``_requests`` what a harness wants answered, and what it
says of the answers · ``_lm_eval`` lm-evaluation-harness, every state as what answers.
"""

from typing import TYPE_CHECKING

from thalweg.errors import UsageError
from thalweg.tasks._mteb import SKEAN32, States, StateScore, mteb_tasks, state_scores
from thalweg.tasks._requests import Answers, HarnessOptions, Request, TaskScore

if TYPE_CHECKING:
    from thalweg.tasks._lm_eval import LmEvalTasks

__all__ = [
    "SKEAN32",
    "Answers",
    "HarnessOptions",
    "LmEvalTasks",
    "Request",
    "StateScore",
    "States",
    "TaskScore",
    "mteb_tasks",
    "state_scores",
]

INSTALL = "Run: pip install lm-eval"


def __getattr__(name: str) -> object:
    if name == "LmEvalTasks":  # lm-eval is imported when it is asked for
        try:
            from thalweg.tasks._lm_eval import LmEvalTasks
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "lm_eval":
                raise
            raise UsageError(f"mcq needs lm-eval, which is not installed. {INSTALL}") from error

        return LmEvalTasks
    raise AttributeError(f"module 'thalweg.tasks' has no attribute {name!r}")
