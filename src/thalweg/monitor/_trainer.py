"""The monitor in transformers' Trainer: ``watch(trainer, out=...)``."""

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainerControl, TrainerState

from thalweg.errors import UsageError
from thalweg.monitor._monitor import Monitor, Take
from thalweg.monitor._options import MonitorOptions

SPEAKING = (PrinterCallback, ProgressCallback)
"""Callbacks that print what is logged: our numbers are for the trackers."""

_log = logging.getLogger("thalweg.monitor")


class ThalwegCallback(TrainerCallback):
    """Measures where training begins, every ``options.every`` optimizer steps, and where it ends.

    Numbers go to a run directory and, once :func:`watch` has made the trainer known, to every tracker of the trainer
    and into its log history. Added in another way, the directory alone is written: a callback is not told of the
    others.

    Args:
        tokenizer, out, name, prompts, text_field, options: as for :class:`~thalweg.monitor.Monitor`.

    Attributes:
        monitor: what measures.
        trainer: whose trackers are written to.

    Raises:
        UsageError: the data, an option or the directory cannot be used.
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
        self.monitor = Monitor(tokenizer, out=out, name=name, prompts=prompts, text_field=text_field, options=options)
        self.trainer: Trainer | None = None

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> TrainerControl:
        """Refuse what cannot be monitored, and measure where training begins, if it is time."""
        if self.trainer is None and args.report_to:
            trackers = ", ".join(args.report_to)
            _log.warning("the monitor writes its directory alone; thalweg.monitor.watch also reaches %s.", trackers)
        return self._look(args, state, control, model, self.monitor.begin)

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> TrainerControl:
        """Measure if it is time, or if this was the last step."""
        return self._look(args, state, control, model)

    def on_epoch_end(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> TrainerControl:
        """Measure if another callback has ended the training."""
        return self._look(args, state, control, model)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002 (the trainer's signature)
        """Close the run; by now trackers are closed, and the model may be an earlier one, the best."""
        self.monitor.finish()

    def _look(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any, take: Take | None = None
    ) -> TrainerControl:
        # The wrapped one where there is a wrapper: it knows how sharded weights are gathered.
        wrapped = getattr(self.trainer, "model_wrapped", None)
        take = take or (self.monitor.measure if control.should_training_stop else self.monitor.step)
        numbers = take(wrapped if isinstance(wrapped, nn.Module) else model, state.global_step)
        if numbers and self.trainer is not None:
            # trainer.log would end the wish, raised in this very step, that the loss be logged.
            state.log_history.append({**numbers, "epoch": state.epoch, "step": state.global_step})
            handler = copy.copy(self.trainer.callback_handler)
            handler.callbacks = [
                each for each in handler.callbacks if each is not self and not isinstance(each, SPEAKING)
            ]
            handler.call_event("on_log", args, state, control, logs=dict(numbers))
        if self.monitor.should_stop:
            control.should_training_stop = True
        return control


def watch(
    trainer: Trainer,
    *,
    out: str | Path,
    tokenizer: Any = None,
    name: str = "model",
    prompts: str | Path | Sequence[str] = "bundled",
    text_field: str | None = None,
    options: MonitorOptions | None = None,
) -> ThalwegCallback:
    """Add the monitor to a trainer; its numbers reach the trainer's own trackers and log history.

    Args:
        trainer: before ``trainer.train()``.
        out: run directory.
        tokenizer: the model's; ``trainer.processing_class`` by default.
        name: what the run calls the model.
        prompts: data of the prompts, or a list of texts.
        text_field: field of the data that holds the text.
        options: interval, prompts, thresholds, alarms.

    Returns:
        The callback, already added.

    Raises:
        UsageError: no tokenizer is known, or the data, an option or the directory cannot be used.
    """
    tokenizer = tokenizer if tokenizer is not None else getattr(trainer, "processing_class", None)
    if tokenizer is None:
        raise UsageError("the trainer knows no tokenizer; pass tokenizer=..., or processing_class=... to the Trainer.")
    callback = ThalwegCallback(tokenizer, out=out, name=name, prompts=prompts, text_field=text_field, options=options)
    callback.trainer = trainer
    trainer.add_callback(callback)
    return callback
