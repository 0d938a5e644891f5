"""The monitor in transformers' Trainer: ``watch(trainer, out=...)``."""

from pathlib import Path
from typing import Any

from torch import nn
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import DefaultFlowCallback

from thalweg.errors import UsageError
from thalweg.monitor._monitor import Monitor
from thalweg.monitor._options import MonitorOptions

__all__ = ["ThalwegCallback", "watch"]

SPEAKING = (DefaultFlowCallback, PrinterCallback, ProgressCallback)
"""Callbacks that print what is logged, or decide by it: our forty numbers are for the trackers."""


class ThalwegCallback(TrainerCallback):
    """Measures before the first step, every ``options.every`` optimizer steps, and at the end.

    Numbers go to a run directory and, once :func:`watch` has made the trainer known, to every tracker of the trainer
    and into its log history. In ``Trainer(callbacks=[...])`` the directory alone is written, since a callback is not
    told of the others.

    Args:
        tokenizer: the model's.
        out: run directory, as for :class:`~thalweg.monitor.Monitor`.
        name: what the run calls the model.
        prompts: data of the prompts.
        text_field: field of the data that holds the text.
        options: interval, prompts, thresholds, alarms.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        out: str | Path,
        name: str = "model",
        prompts: str | Path = "bundled",
        text_field: str | None = None,
        options: MonitorOptions | None = None,
    ) -> None:
        self.monitor = Monitor(tokenizer, out=out, name=name, prompts=prompts, text_field=text_field, options=options)
        self.trainer: Trainer | None = None

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Measure where training begins, unless it goes on between two measurements."""
        self._log(args, state, control, self.monitor.step(self._model(model), state.global_step))

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any) -> None:
        """Measure if it is time."""
        self._log(args, state, control, self.monitor.step(self._model(model), state.global_step))

    def on_train_end(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Measure the model as it ends, and close the run."""
        self._log(args, state, control, self.monitor.finish(self._model(model), state.global_step))

    def _model(self, model: Any) -> nn.Module:
        # The wrapped one where there is a wrapper: it knows how sharded weights are gathered.
        wrapped = getattr(self.trainer, "model_wrapped", None)
        return wrapped if isinstance(wrapped, nn.Module) else model

    def _log(self, args: Any, state: TrainerState, control: TrainerControl, found: dict[str, float] | None) -> None:
        if not found or self.trainer is None:
            return
        state.log_history.append({**found, "epoch": state.epoch, "step": state.global_step})
        for callback in self.trainer.callback_handler.callbacks:
            if callback is not self and not isinstance(callback, SPEAKING):
                callback.on_log(args, state, control, logs=dict(found), model=self.trainer.model)


def watch(
    trainer: Trainer,
    *,
    out: str | Path,
    tokenizer: Any = None,
    name: str = "model",
    prompts: str | Path = "bundled",
    text_field: str | None = None,
    options: MonitorOptions | None = None,
) -> ThalwegCallback:
    """Add the monitor to a trainer; its numbers reach the trainer's own trackers and log history.

    Args:
        trainer: before ``trainer.train()``.
        out: run directory.
        tokenizer: the model's; ``trainer.processing_class`` by default.
        name: what the run calls the model.
        prompts: data of the prompts.
        text_field: field of the data that holds the text.
        options: interval, prompts, thresholds, alarms.

    Returns:
        The callback, already added.

    Raises:
        UsageError: no tokenizer is known.
    """
    tokenizer = tokenizer if tokenizer is not None else getattr(trainer, "processing_class", None)
    if tokenizer is None:
        raise UsageError("the trainer knows no tokenizer; pass tokenizer=..., or processing_class=... to the Trainer.")
    callback = ThalwegCallback(tokenizer, out=out, name=name, prompts=prompts, text_field=text_field, options=options)
    callback.trainer = trainer
    trainer.add_callback(callback)
    return callback
