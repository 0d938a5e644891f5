"""How do the states of a model do in other people's benchmarks? Their tasks, prompts and scoring, called as they are.

This room stands beside :mod:`thalweg.interventions` and its neighbours and below :mod:`thalweg.experiments`: it is told
how to embed or to answer, and reads no model itself. Each harness is imported in one file, and only when it is asked for.

In reading order: ``_mteb`` MTEB, every state as an embedding.
"""

from thalweg.tasks._mteb import SKEAN32, States, StateScore, mteb_tasks, state_scores

__all__ = ["SKEAN32", "StateScore", "States", "mteb_tasks", "state_scores"]
