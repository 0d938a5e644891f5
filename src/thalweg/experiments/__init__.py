"""What did the paper measure? One folder an experiment, over a small shared driver.

In a folder: ``__init__`` the public function, whose signature is the Python call and the command line; ``measure`` what
one batch of prompts gives, and ``view`` what a person is shown of a run. Importing this room imports no torch.

The driver, in reading order: :mod:`._declared` (what an experiment is), :mod:`._options` (what is asked) and
:mod:`._typed` (how that is typed), :mod:`._columns` (what tables hold), :mod:`._prepare` and :mod:`._facts` (models,
data, what a run says about itself), :mod:`._pass` (one batch through a model, whoever reads it), :mod:`._blocks`
(running text in blocks), :mod:`._over_prompts` (shards of prompts to parts of a run), :mod:`._features` (texts at
every state, each measured once), :mod:`._index_list` (blocks as a person writes them), :mod:`._intervened` and
:mod:`._sink_scan` (one batch under an intervention, and what the sink's row is made of), :mod:`._outcome` (what is
told of a result); for views :mod:`._pairs` (models and data, and what to call them), :mod:`._views` (what a run holds
of an experiment, and what several views tell) and :mod:`._curves` (curves through depth).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from thalweg.experiments._ablate import ablate
from thalweg.experiments._attribute import attribute
from thalweg.experiments._checkpoints import Checkpoints, checkpoints
from thalweg.experiments._clip import clip
from thalweg.experiments._contrast import contrast
from thalweg.experiments._declared import Experiment
from thalweg.experiments._lens import STEP_TOKENS, lens, train_tuned
from thalweg.experiments._lens.tables import trained_lens
from thalweg.experiments._mcq import mcq
from thalweg.experiments._mteb import mteb
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._outcome import Outcome
from thalweg.experiments._pairs import Pair, labels, latest_pairs, pairs, surveyed_span
from thalweg.experiments._probe import Recipe, probe
from thalweg.experiments._survey import survey
from thalweg.store import Tables

if TYPE_CHECKING:
    from thalweg.experiments._attribute.measure import attributed, writing_blocks_of
    from thalweg.experiments._checkpoints.emergence import write_emergence
    from thalweg.experiments._facts import hardware, learned_facts, versions
    from thalweg.experiments._features import TextFeatures, features
    from thalweg.experiments._survey.findings import open_survey
    from thalweg.experiments._survey.rows import aggregate, measure_rows

__all__ = [
    "BUILT_IN",
    "STEP_TOKENS",
    "Checkpoints",
    "Experiment",
    "Outcome",
    "Pair",
    "Recipe",
    "SurveyOptions",
    "TextFeatures",
    "ablate",
    "aggregate",
    "attribute",
    "attributed",
    "checkpoints",
    "clip",
    "contrast",
    "experiments",
    "features",
    "hardware",
    "labels",
    "latest_pairs",
    "learned_facts",
    "lens",
    "mcq",
    "measure_rows",
    "mteb",
    "open_survey",
    "pairs",
    "probe",
    "register",
    "survey",
    "surveyed_span",
    "tables_of",
    "train_tuned",
    "trained_lens",
    "versions",
    "write_emergence",
    "writing_blocks_of",
]

BUILT_IN = (
    "_checkpoints",
    "_survey",
    "_contrast",
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


def experiments() -> tuple[Experiment, ...]:
    """Give every experiment, those that come with thalweg first."""
    built_in = (import_module(f"{__name__}.{folder}").EXPERIMENT for folder in BUILT_IN)
    return (*built_in, *_registered)


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
    "TextFeatures": "_features",
    "aggregate": "_survey.rows",
    "attributed": "_attribute.measure",
    "features": "_features",
    "hardware": "_facts",
    "learned_facts": "_facts",
    "measure_rows": "_survey.rows",
    "open_survey": "_survey.findings",
    "versions": "_facts",
    "write_emergence": "_checkpoints.emergence",
    "writing_blocks_of": "_attribute.measure",
}


def __getattr__(name: str) -> object:
    if name in _WITH_TORCH:
        return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
