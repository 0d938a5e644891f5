"""What did the paper measure? One folder an experiment, over a small shared driver.

In a folder: ``__init__`` the public function, whose signature is the Python call and the command line; ``measure`` what
one batch of prompts gives, and ``view`` what a person is shown of a run. Importing this room imports no torch.

The driver, in reading order: :mod:`._declared` (what an experiment is, and what is told of its result),
:mod:`._options` (what is asked, and how that is typed), :mod:`._keywords` (the same for type checkers), :mod:`._called`
(how an experiment is called from Python), :mod:`._columns` (what tables hold), :mod:`._continued` (what is taken over
from a run), :mod:`._prepare` (models and data) with :mod:`._session` (how a command ran), :mod:`._pass` (one batch
through a model, whoever reads it), :mod:`._over_prompts` (shards of prompts, or of blocks of text, to parts of a run),
:mod:`._features` (texts at every state, each measured once), :mod:`._planned` (the rows that interventions act on),
:mod:`._intervened` (one batch under an intervention), and for views :mod:`._views` (models, data and their names,
curves through depth, what a run holds of an experiment) and :mod:`._head_numbers` (what it knows of every head).
"""

import logging
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import thalweg.experiments._columns as shared_columns
from thalweg.experiments._ablate import ablate
from thalweg.experiments._attribute import attribute
from thalweg.experiments._called import takes_options
from thalweg.experiments._checkpoints import Checkpoints, checkpoints
from thalweg.experiments._clip import clip
from thalweg.experiments._contrast import contrast
from thalweg.experiments._declared import PARTLY, Experiment, Outcome, reading, sections_of
from thalweg.experiments._head_numbers import head_numbers
from thalweg.experiments._heads import heads
from thalweg.experiments._keywords import PassKeywords, PromptKeywords, SurveyKeywords, TextKeywords
from thalweg.experiments._lens import STEP_TOKENS, lens, train_tuned
from thalweg.experiments._lens.tables import trained_lens
from thalweg.experiments._mcq import mcq
from thalweg.experiments._mteb import mteb
from thalweg.experiments._options import PIECES, Data, Model, Models, Names, PromptOptions, SurveyOptions
from thalweg.experiments._probe import Recipe, probe
from thalweg.experiments._scan import scan
from thalweg.experiments._session import hardware, versions
from thalweg.experiments._survey import survey
from thalweg.experiments._views import (
    MeasuredPair,
    Pair,
    answers_of,
    compress_span,
    file_names,
    head_grid,
    kinds_of,
    labels,
    latest_pairs,
    measured_pairs,
    pairs,
    settings_words,
    surveyed_span,
    tracks,
)
from thalweg.store import Tables

if TYPE_CHECKING:
    from thalweg.experiments._attribute.measure import attributed, writing_blocks_of
    from thalweg.experiments._checkpoints.measure import write_emergence
    from thalweg.experiments._features import TextFeatures, features
    from thalweg.experiments._over_prompts import loaded, measure_prompts, unfinished
    from thalweg.experiments._pass import Reduced, read
    from thalweg.experiments._prepare import learned_facts, prepare
    from thalweg.experiments._survey.measure import aggregate, measure_rows, open_survey

__all__ = [
    "BUILT_IN",
    "PARTLY",
    "PIECES",
    "STEP_TOKENS",
    "Checkpoints",
    "Data",
    "Experiment",
    "MeasuredPair",
    "Model",
    "Models",
    "Names",
    "Outcome",
    "Pair",
    "PassKeywords",
    "PromptKeywords",
    "PromptOptions",
    "Recipe",
    "Reduced",
    "SurveyKeywords",
    "SurveyOptions",
    "TextFeatures",
    "TextKeywords",
    "ablate",
    "aggregate",
    "answers_of",
    "attribute",
    "attributed",
    "checkpoints",
    "clip",
    "compress_span",
    "contrast",
    "experiments",
    "features",
    "file_names",
    "hardware",
    "head_grid",
    "head_numbers",
    "heads",
    "kinds_of",
    "labels",
    "latest_pairs",
    "learned_facts",
    "lens",
    "loaded",
    "mcq",
    "measure_prompts",
    "measure_rows",
    "measured_pairs",
    "mteb",
    "open_survey",
    "pairs",
    "prepare",
    "probe",
    "read",
    "reading",
    "register",
    "scan",
    "sections_of",
    "settings_words",
    "shared_columns",
    "survey",
    "surveyed_span",
    "tables_of",
    "takes_options",
    "tracks",
    "train_tuned",
    "trained_lens",
    "unfinished",
    "versions",
    "write_emergence",
    "writing_blocks_of",
]

BUILT_IN = (
    "_checkpoints",
    "_survey",
    "_scan",
    "_contrast",
    "_heads",
    "_attribute",
    "_ablate",
    "_clip",
    "_lens",
    "_mcq",
    "_probe",
    "_mteb",
)
"""Folders, in the order in which a page shows them."""

_registered = list[Experiment]()
_log = logging.getLogger("thalweg.experiments")


def experiments() -> tuple[Experiment, ...]:
    """Give every experiment: those that come with thalweg, those of installed packages, those that were registered."""
    built_in = (import_module(f"{__name__}.{folder}").EXPERIMENT for folder in BUILT_IN)
    return (*built_in, *_installed(), *_registered)


@cache
def _installed() -> tuple[Experiment, ...]:
    """Those that packages declare as entry points of the group ``thalweg.experiments``."""
    loaded_ones = list[Experiment]()
    for point in entry_points(group=__name__):
        try:
            loaded_ones.append(point.load())
        except Exception as error:  # a broken package must not take thalweg with it
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            _log.warning(
                "the experiment %s (%s) cannot be loaded: %s. Repair its package, or uninstall it.",
                point.name,
                point.value,
                reason,
            )
    return tuple(loaded_ones)


def tables_of(name: str) -> Tables:
    """Give the tables of what a run holds under a name, such as ``ablation``.

    Raises:
        KeyError: no experiment writes such a folder.
    """
    return {folder: tables for known in experiments() for folder, tables in known.tables.items()}[name]


def register(experiment: Experiment) -> Experiment:
    """Add an experiment that was written elsewhere: verb, help, figures and report then know it.

    Raises:
        ValueError: another one has its name or its verb.
    """
    for known in experiments():
        if experiment.name == known.name or experiment.verb == known.verb:
            raise ValueError(f"expected a name and a verb of its own; {known.name} ({known.verb}) is there already")
    _registered.append(experiment)
    return experiment


_WITH_TORCH = {
    "_attribute.measure": ("attributed", "writing_blocks_of"),
    "_checkpoints.measure": ("write_emergence",),
    "_features": ("TextFeatures", "features"),
    "_over_prompts": ("loaded", "measure_prompts", "unfinished"),
    "_pass": ("Reduced", "read"),
    "_prepare": ("learned_facts", "prepare"),
    "_survey.measure": ("aggregate", "measure_rows", "open_survey"),
}


def __getattr__(name: str) -> object:
    for file, names in _WITH_TORCH.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
