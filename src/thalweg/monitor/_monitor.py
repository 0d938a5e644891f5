"""The monitor for any training loop: ``monitor.step(model, step)``."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from thalweg.errors import UsageError
from thalweg.monitor._options import Alarm, MonitorOptions, Watch
from thalweg.monitor._record import Ending, Record
from thalweg.monitor._untouched import generators_kept, is_sharded
from thalweg.paths import path_here

Take = Callable[[nn.Module, int], dict[str, float] | None]
"""A way to measure: :meth:`Monitor.begin`, :meth:`Monitor.step` or :meth:`Monitor.measure`."""

_log = logging.getLogger("thalweg.monitor")


class Monitor:
    """Measures a few fixed prompts every ``options.every`` steps, and writes a run that can be opened meanwhile.

    Training is left bit-identical: nothing is drawn at random, and no gradient, mode, buffer or hook stays behind. The
    model is measured in evaluation mode and in the type of its weights, without autocast, so that a survey of a
    checkpoint saved at the same step, with the same prompts and ``max_length``, gives the same numbers. Forward hooks
    of one's own are called as in any other forward pass. With several processes every one has to call :meth:`step`; the
    first one writes.

    Args:
        tokenizer: the model's.
        out: run directory; an existing one of the same training is continued, and a step that is measured again
            replaces the earlier measurement, which is said. Steps that a training went through before it was taken up
            again from an earlier checkpoint stay until they are reached again.
        name: what the run calls the model.
        prompts: data as for a survey ("bundled", a file, or a data set on the hub), or a list of texts.
        text_field: field of the data that holds the text.
        options: interval, prompts, thresholds, alarms.

    Attributes:
        options: as given.
        seconds: spent in measurements so far.

    Raises:
        UsageError: the data, an option or the directory cannot be used.

    Example:
        >>> monitor = Monitor(tokenizer, out="runs/training")  # doctest: +SKIP
        >>> monitor.begin(model)  # doctest: +SKIP
        >>> for step, batch in enumerate(batches, start=1):  # doctest: +SKIP
        ...     train(model, batch)
        ...     monitor.step(model, step)
        >>> monitor.finish(model, step)  # doctest: +SKIP
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
        self.options = MonitorOptions() if options is None else options
        if not callable(tokenizer):
            raise UsageError(f"the monitor needs the model's tokenizer; got {type(tokenizer).__name__}.")
        source = str(prompts) if isinstance(prompts, Path) else prompts
        self.seconds = 0.0
        with generators_kept():
            self._record = Record(path_here("--out", out), name, tokenizer, source, text_field, self.options)
        self._watch = Watch(self.options.alarms)
        self._last: int | None = None
        self._off = False
        self._stop = False

    @property
    def alarms(self) -> list[Alarm]:
        """Every alarm so far, on the process that writes."""
        return self._watch.raised

    @property
    def should_stop(self) -> bool:
        """Whether an alarm was raised and ``alarms.stop`` asks for an end; the same on every process."""
        return self._stop

    def is_due(self, step: int) -> bool:
        """Whether :meth:`step` would measure at this step."""
        return not self._off and step % self.options.every == 0 and step != self._last

    def begin(self, model: nn.Module, step: int = 0) -> dict[str, float] | None:
        """Before training: refuse what cannot be monitored while nothing is lost yet, then measure if it is time.

        Without it, what is wrong with model or directory is told at the first measurement, as any other failure.

        Args:
            model: as for :meth:`step`.
            step: optimizer steps done, where a training is taken up again.

        Returns:
            As :meth:`step`.

        Raises:
            UsageError: the model is none that can be measured, the directory holds another training, another process
                writes it, or it cannot be written.
        """
        with generators_kept(model):
            self._record.begin(model, step, measures=self.is_due(step), writes=_is_first_process())
        return self.step(model, step)

    def step(self, model: nn.Module, step: int) -> dict[str, float] | None:
        """Measure if it is time.

        Args:
            model: the model in training, as it is: compiled, wrapped in DDP or FSDP, or plain.
            step: optimizer steps done.

        Returns:
            ``thalweg/...`` scalars, ready for a tracker, empty on processes that do not write; None where nothing was
            measured.

        Raises:
            Exception: a measurement failed and ``options.strict`` is set.
        """
        return self.measure(model, step) if self.is_due(step) else None

    def measure(self, model: nn.Module, step: int) -> dict[str, float] | None:
        """Measure now, whatever the interval says, unless this step was measured last or the monitor is off."""
        if self._off or step == self._last:
            return None
        with generators_kept(model):
            since = time.perf_counter()
            numbers = self._measured(model, step)
            self._last = step
            self.seconds += time.perf_counter() - since
            ratios = self._record.ratios_before(step) if numbers and self.options.alarms.ratio_growing_for else ()
            raised = self._watch.look(step, numbers, ratios) if numbers else []
        self._agree(model, bool(raised))
        if not numbers:
            return numbers
        named = {f"thalweg/{name}": value for name, value in numbers.items() if math.isfinite(value)}
        return {**named, "thalweg/alarms": float(len(raised))} if self.options.alarms.any else named

    def finish(self, model: nn.Module | None = None, step: int | None = None) -> dict[str, float] | None:
        """Measure a last time, if a model is given, and close the run as finished."""
        numbers = self.measure(model, step) if model is not None and step is not None else None
        self._close("finished")
        return numbers

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped: Ending = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        self._close("finished" if error is None else stopped)

    def _close(self, status: Ending) -> None:
        with generators_kept():
            self._record.close(status)

    def _measured(self, model: nn.Module, step: int) -> dict[str, float] | None:
        try:
            return self._record.measure(model, step, writes=_is_first_process())
        except Exception as error:
            self._off = True
            with suppress(UsageError):  # such as a disk that is still full; the first error is the one to hear about
                self._record.close("failed")
            if self.options.strict:
                raise
            said = " ".join(str(error).split()) or type(error).__name__
            _log.warning("the monitor is off from step %d on, the training goes on: %s", step, said)
            return None

    def _agree(self, model: nn.Module, alarmed: bool) -> None:
        """Off and stop hold on every process or on none, wherever another one would wait for this one."""
        together = _in_company() and (self.options.alarms.stop or is_sharded(model))
        if together:
            flags = torch.tensor([self._off, alarmed], dtype=torch.int32, device=next(model.parameters()).device)
            torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
            self._off, alarmed = (bool(flag) for flag in flags.tolist())
        self._stop = self._stop or (alarmed and self.options.alarms.stop)


def _is_first_process() -> bool:
    return not _in_company() or torch.distributed.get_rank() == 0


def _in_company() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
