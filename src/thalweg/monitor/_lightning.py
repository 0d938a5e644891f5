"""The monitor in Lightning: ``Trainer(callbacks=[ThalwegLightningCallback(...)])``. The one file that imports it."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from thalweg.errors import UsageError
from thalweg.monitor._monitor import Monitor, Take
from thalweg.monitor._options import MonitorOptions

PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def _callback_class() -> Any:
    """Of the Lightning that the training uses, where both are installed: the one that is imported already."""
    for package in sorted(PACKAGES, key=lambda package: package not in sys.modules):
        with suppress(ImportError):
            return import_module(package).Callback
    return object  # so that the name is there; who uses it is told what is missing


Callback: Any = _callback_class()


class ThalwegLightningCallback(Callback):
    """Measures as :class:`~thalweg.monitor.Monitor` does, and logs to every logger of the trainer.

    The Lightning module holds one Hugging Face model, under whatever name.

    Args:
        tokenizer, out, name, prompts, text_field, options: as for :class:`~thalweg.monitor.Monitor`.

    Attributes:
        monitor: what measures.

    Raises:
        UsageError: Lightning is not installed, or the data, an option or the directory cannot be used.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        out: str | Path,
        name: str = "model",
        prompts: str | Path | Sequence[str] = "bundled",
        text_field: str | None = None,
        options: MonitorOptions | None = None,
    ) -> None:
        if Callback is object:
            raise UsageError("Lightning is not installed. Run: pip install lightning")
        super().__init__()
        self.monitor = Monitor(tokenizer, out=out, name=name, prompts=prompts, text_field=text_field, options=options)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse what cannot be monitored, and measure where training begins, if it is time."""
        self._look(trainer, pl_module, self.monitor.begin)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 (Lightning's signature)
        """Measure if it is time; ``trainer.global_step`` counts optimizer steps."""
        self._look(trainer, pl_module, self.monitor.step)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002 (Lightning's signature)
        """Close the run as failed, or interrupted."""
        self.monitor.__exit__(type(exception), exception, exception.__traceback__)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure the model as it ends, and close the run."""
        self._log(trainer, self.monitor.finish(_wrapped(trainer, pl_module), trainer.global_step))

    def _look(self, trainer: Any, pl_module: Any, take: Take) -> None:
        self._log(trainer, take(_wrapped(trainer, pl_module), trainer.global_step))
        if self.monitor.should_stop:
            trainer.should_stop = True

    def _log(self, trainer: Any, numbers: dict[str, float] | None) -> None:
        for logger in trainer.loggers if numbers else ():
            logger.log_metrics(numbers, step=trainer.global_step)


def _wrapped(trainer: Any, pl_module: Any) -> nn.Module:
    # The strategy's wrapper, where there is one, knows how sharded weights are gathered.
    model = getattr(trainer.strategy, "model", None)
    return model if isinstance(model, nn.Module) else pl_module
