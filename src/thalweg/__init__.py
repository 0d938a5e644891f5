"""Follow a language model through its depth: where attention sinks, where representations compress, and why.

::

    import thalweg

    run = thalweg.survey("EleutherAI/pythia-410m", "gsm8k", out="runs/pythia-410m")
    run = thalweg.open_run("runs/pythia-410m")     # needs neither torch nor the model
    run.profile.collect()

Names are loaded when they are first used, so that ``import thalweg`` imports no torch.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from thalweg.in_notebooks import HTML

if TYPE_CHECKING:
    from thalweg.advice import advise as advise
    from thalweg.checks import listing as listing
    from thalweg.checks import verify as verify
    from thalweg.comparison import compare as compare
    from thalweg.errors import ThalwegError as ThalwegError
    from thalweg.errors import UsageError as UsageError
    from thalweg.experiments import Checkpoints as Checkpoints
    from thalweg.experiments import SurveyOptions as SurveyOptions
    from thalweg.experiments import ablate as ablate
    from thalweg.experiments import attribute as attribute
    from thalweg.experiments import checkpoints as checkpoints
    from thalweg.experiments import clip as clip
    from thalweg.experiments import contrast as contrast
    from thalweg.experiments import heads as heads
    from thalweg.experiments import lens as lens
    from thalweg.experiments import mcq as mcq
    from thalweg.experiments import mteb as mteb
    from thalweg.experiments import probe as probe
    from thalweg.experiments import scan as scan
    from thalweg.experiments import survey as survey
    from thalweg.experiments import train_tuned as train_tuned
    from thalweg.figures import figure as figure
    from thalweg.figures import save_figures as save_figures
    from thalweg.holdings import show as show
    from thalweg.recipes import reproduce as reproduce
    from thalweg.report import write_report as write_report
    from thalweg.store import Run as Run
    from thalweg.store import open_run as open_run
    from thalweg.tables import table as table

__version__ = "0.1.0"

_ROOMS = {
    "Checkpoints": "experiments",
    "Run": "store",
    "SurveyOptions": "experiments",
    "ThalwegError": "errors",
    "UsageError": "errors",
    "advise": "advice",
    "compare": "comparison",
    "figure": "figures",
    "listing": "checks",
    "open_run": "store",
    "reproduce": "recipes",
    "save_figures": "figures",
    "show": "holdings",
    "table": "tables",
    "train_tuned": "experiments",
    "verify": "checks",
    "write_report": "report",
}
"""Where names are that are no experiment's."""
_IN_NOTEBOOKS = {
    "findings": ("notebook", "findings_html"),
    "run": ("notebook", "run_html"),
    "section": ("shown", "section_html"),
}
"""Who gives the HTML of what."""


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(["__version__", *_ROOMS, *_experiments()])
    if name in _ROOMS:
        return getattr(import_module(f"thalweg.{_ROOMS[name]}"), name)
    is_room = find_spec(f"thalweg.{name}") is not None  # `from thalweg import store` asks here before it imports it
    if not name.startswith("_") and not is_room and name in (functions := _experiments()):
        return functions[name]
    raise AttributeError(f"module 'thalweg' has no attribute {name!r}")


def _showing(room: str, name: str) -> Callable[[Any], str]:
    """Loaded when a notebook asks."""
    return lambda what: getattr(import_module(f"thalweg.{room}"), name)(what)


HTML.update({kind: _showing(*where) for kind, where in _IN_NOTEBOOKS.items()})


def __dir__() -> list[str]:
    return __getattr__("__all__")


def _experiments() -> dict[str, Any]:
    """The functions of all experiments, those that were registered too, by their names."""
    known = import_module("thalweg.experiments").experiments()
    return {experiment.verb: experiment.function for experiment in known}
