"""The monitor for any training loop: ``monitor.step(model, step)``."""

import logging
import math
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from thalweg.errors import UsageError
from thalweg.monitor._alarms import Watch
from thalweg.monitor._options import Alarm, MonitorOptions
from thalweg.monitor._record import Record

__all__ = ["Monitor"]

_log = logging.getLogger("thalweg.monitor")


class Monitor:
    """Measures a few fixed prompts every ``options.every`` steps, and writes a run that can be opened meanwhile.

    Training is left bit-identical: nothing is drawn at random, no gradient, mode or hook stays behind. With several
    processes every one has to call :meth:`step`; the first one writes.

    Args:
        tokenizer: the model's.
        out: run directory; an existing one of the same training is continued, and a step that is measured again
            replaces the earlier measurement.
        name: what the run calls the model.
        prompts: data as for a survey: "bundled", a file, or a data set on the hub.
        text_field: field of the data that holds the text.
        options: interval, prompts, thresholds, alarms.

    Attributes:
        alarms: every alarm so far.

    Raises:
        UsageError: the data or an option cannot be used.

    Example:
        >>> monitor = Monitor(tokenizer, out="runs/training")  # doctest: +SKIP
        >>> for step, batch in enumerate(batches):  # doctest: +SKIP
        ...     train(model, batch)
        ...     monitor.step(model, step)
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
        self.options = MonitorOptions() if options is None else options
        if not callable(tokenizer):
            raise UsageError(f"the monitor needs the model's tokenizer; got {type(tokenizer).__name__}.")
        self._record = Record(Path(out), name, tokenizer, str(prompts), text_field, self.options)
        self._watch = Watch(self.options.alarms)
        self._last: int | None = None
        self._off = False

    @property
    def alarms(self) -> list[Alarm]:
        """Every alarm so far."""
        return self._watch.raised

    def is_due(self, step: int) -> bool:
        """Whether :meth:`step` would measure at this step."""
        return not self._off and step % self.options.every == 0 and step != self._last

    def step(self, model: nn.Module, step: int) -> dict[str, float] | None:
        """Measure if it is time.

        Args:
            model: the model in training, as it is: compiled, wrapped in DDP or FSDP, or plain.
            step: optimizer steps done.

        Returns:
            ``thalweg/...`` scalars, ready for a tracker; None where nothing was measured.

        Raises:
            Exception: a measurement failed and ``options.strict`` is set.
        """
        return self.measure(model, step) if self.is_due(step) else None

    def measure(self, model: nn.Module, step: int) -> dict[str, float] | None:
        """Measure now, whatever the interval says."""
        if self._off or step == self._last:
            return None
        writes = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        try:
            found = self._record.measure(model, step, writes=writes)
        except Exception as error:
            if self.options.strict:
                raise
            self._off = True
            self._record.close(finished=False)
            _log.warning("the monitor is off from step %d on: %s", step, " ".join(str(error).split()))
            return None
        self._last = step
        named = {f"thalweg/{name}": value for name, value in found.items() if math.isfinite(value)}
        raised = self._watch.look(step, found)
        return {**named, "thalweg/alarms": float(len(raised))} if self.options.alarms.any else named

    def finish(self, model: nn.Module | None = None, step: int | None = None) -> dict[str, float] | None:
        """Measure a last time, if a model is given, and close the run as finished."""
        found = self.measure(model, step) if model is not None and step is not None else None
        self._record.close(finished=not self._off)
        return found

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._record.close(finished=error is None and not self._off)
