"""The monitor in Lightning: ``Trainer(callbacks=[lightning_callback(...)])``. The one file that imports it."""

from importlib import import_module
from pathlib import Path
from typing import Any

from thalweg.errors import UsageError
from thalweg.monitor._monitor import Monitor
from thalweg.monitor._options import MonitorOptions

__all__ = ["lightning_callback"]

PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def lightning_callback(
    tokenizer: Any,
    *,
    out: str | Path,
    name: str = "model",
    prompts: str | Path = "bundled",
    text_field: str | None = None,
    options: MonitorOptions | None = None,
) -> Any:
    """A Lightning callback that measures as :class:`~thalweg.monitor.Monitor` does and logs to the trainer's loggers.

    Args:
        tokenizer: the model's.
        out: run directory.
        name: what the run calls the model.
        prompts: data of the prompts.
        text_field: field of the data that holds the text.
        options: interval, prompts, thresholds, alarms.

    Returns:
        A ``Callback`` of the Lightning that is installed. The module's Hugging Face model is its attribute ``model``.

    Raises:
        UsageError: Lightning is not installed.
    """
    monitor = Monitor(tokenizer, out=out, name=name, prompts=prompts, text_field=text_field, options=options)
    base: Any = _callback_class()

    class ThalwegLightningCallback(base):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            _log(trainer, monitor.step(pl_module, trainer.global_step))

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            _log(trainer, monitor.step(pl_module, trainer.global_step))

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            _log(trainer, monitor.finish(pl_module, trainer.global_step))

    return ThalwegLightningCallback()


def _log(trainer: Any, found: dict[str, float] | None) -> None:
    for logger in trainer.loggers if found else ():
        logger.log_metrics(found, step=trainer.global_step)


def _callback_class() -> type:
    for package in PACKAGES:
        try:
            return import_module(package).Callback
        except ImportError:
            continue
    raise UsageError("Lightning is not installed. Run: pip install lightning")
