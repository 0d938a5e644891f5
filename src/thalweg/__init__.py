"""Follow a language model through its depth: where attention sinks, where representations compress, and why.

::

    import thalweg

    run = thalweg.survey("EleutherAI/pythia-410m", "gsm8k", out="runs/pythia-410m")
    run = thalweg.open_run("runs/pythia-410m")     # needs neither torch nor the model
    run.profile.collect()

Names are loaded when they are first used, so that ``import thalweg`` imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg.advice import advise
    from thalweg.errors import ThalwegError, UsageError
    from thalweg.experiments import (
        Checkpoints,
        SurveyOptions,
        ablate,
        attribute,
        checkpoints,
        clip,
        contrast,
        lens,
        mcq,
        mteb,
        probe,
        survey,
        train_tuned,
    )
    from thalweg.figures import save_figures
    from thalweg.report import write_report
    from thalweg.store import Run, open_run

__version__ = "0.1.0"
__all__ = [
    "Checkpoints",
    "Run",
    "SurveyOptions",
    "ThalwegError",
    "UsageError",
    "__version__",
    "ablate",
    "advise",
    "attribute",
    "checkpoints",
    "clip",
    "contrast",
    "lens",
    "mcq",
    "mteb",
    "open_run",
    "probe",
    "save_figures",
    "survey",
    "train_tuned",
    "write_report",
]

_ROOMS = {
    "Checkpoints": "experiments",
    "Run": "store",
    "SurveyOptions": "experiments",
    "ThalwegError": "errors",
    "UsageError": "errors",
    "ablate": "experiments",
    "advise": "advice",
    "attribute": "experiments",
    "checkpoints": "experiments",
    "clip": "experiments",
    "contrast": "experiments",
    "lens": "experiments",
    "mcq": "experiments",
    "mteb": "experiments",
    "open_run": "store",
    "probe": "experiments",
    "save_figures": "figures",
    "survey": "experiments",
    "train_tuned": "experiments",
    "write_report": "report",
}


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return getattr(import_module(f"thalweg.{_ROOMS[name]}"), name)
    raise AttributeError(f"module 'thalweg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
