"""What a monitor is asked, checked before training begins, and when it raises its voice."""

import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from thalweg.errors import UsageError
from thalweg.experiments import SurveyOptions
from thalweg.options import MASSIVE_RATIO, TAU
from thalweg.validated import Says, validated

COUNT = Field(ge=1, le=sys.maxsize)


@dataclass(frozen=True)
class Alarm:
    """What was seen that should not pass unnoticed.

    Attributes:
        kind: "massive activation" or "growing norm ratio".
        step: optimizer step.
        value: the peak value, or the norm ratio.
        message: one line.
    """

    kind: str
    step: int
    value: float
    message: str


@validated
class Alarms:
    """When to raise the alarm; None switches one off.

    Attributes:
        massive_above: largest |x_ij| of any state above this, or not finite.
        ratio_growing_for: the largest norm ratio of any state grew over this many measurements in a row.
        on_alarm: called with each alarm, beside the line in the log; what it raises is the training's to handle.
        stop: ask the training to stop. The callbacks tell their trainer; a loop of one's own asks
            :attr:`Monitor.should_stop`.
    """

    massive_above: Annotated[float | None, Field(gt=0), Says("massive_above is a magnitude, above 0; got {got}.")] = (
        None
    )
    ratio_growing_for: Annotated[
        int | None, COUNT, Says("ratio_growing_for counts measurements, from 1; got {got}.")
    ] = None
    on_alarm: Callable[[Alarm], None] | None = None
    stop: bool = False

    def __post_init__(self) -> None:
        if (self.stop or self.on_alarm is not None) and not self.any:
            raise UsageError("stop and on_alarm need an alarm; give massive_above or ratio_growing_for.")

    @property
    def any(self) -> bool:
        """Whether one is switched on."""
        return self.massive_above is not None or self.ratio_growing_for is not None


@validated
class MonitorOptions:
    """Options of a monitor.

    Attributes:
        every: optimizer steps between two measurements. A fixed number, so that two trainings have the same steps. A
            measurement of the default prompts takes as long as a few training steps of ordinary size, so that 500
            keeps it well below 2% of the time; `make bench` prints the share.
        prompts: how many prompts of the data, from its first row; texts given as a list are all measured.
        max_length: tokens of a prompt at most.
        tau, sink_position, massive_ratio: thresholds, as for a survey.
        bos: "auto", "always" or "never", as for a survey.
        alarms: when to raise the alarm.
        strict: a measurement that fails ends the training with its error. By default it is told once and the monitor
            switches itself off.
    """

    every: Annotated[int, COUNT, Says("every must be an integer, at least 1; got {got}.")] = 500
    prompts: Annotated[int, COUNT, Says("prompts must be an integer, at least 1; got {got}.")] = 8
    max_length: int = 256
    tau: float = TAU
    sink_position: int = 0
    massive_ratio: float = MASSIVE_RATIO
    bos: Annotated[Literal["auto", "always", "never"], Says("bos must be auto, always or never; got {got!r}.")] = "auto"
    alarms: Alarms = field(default_factory=Alarms)
    strict: bool = False

    def __post_init__(self) -> None:
        _ = self.survey  # checks the rest

    @property
    def survey(self) -> SurveyOptions:
        """The same as options of a survey: one of a saved checkpoint gives the same numbers."""
        return SurveyOptions(
            limit=self.prompts,
            max_length=self.max_length,
            bos=self.bos,
            tau=self.tau,
            sink_position=self.sink_position,
            massive_ratio=self.massive_ratio,
            progress=False,
        )


_log = logging.getLogger("thalweg.monitor")


class Watch:
    """Looks at every measurement and keeps the alarms."""

    def __init__(self, alarms: Alarms) -> None:
        self.alarms = alarms
        self.raised = list[Alarm]()

    def look(self, step: int, numbers: dict[str, float], ratios: Sequence[float] = ()) -> list[Alarm]:
        """Raise what there is to raise at this step; ``ratios`` are the largest norm ratios of the steps before it."""
        raised = [*self._massive(step, numbers), *self._growing(step, numbers, ratios)]
        self.raised += raised
        for alarm in raised:
            _log.warning("%s", alarm.message)
            if self.alarms.on_alarm is not None:
                self.alarms.on_alarm(alarm)
        return raised

    def _massive(self, step: int, numbers: dict[str, float]) -> Iterator[Alarm]:
        limit, peak = self.alarms.massive_above, numbers.get("peak_value/max", 0.0)
        if limit is None:
            return
        if abs(peak) > limit:
            said = f"step {step}: an activation of {peak:.4g} is above the limit of {limit:g}."
            yield Alarm("massive activation", step, peak, said)
        elif states := numbers.get("nonfinite_states", 0.0):
            said = f"step {step}: {states:.0f} states hold NaN or Inf; the limit is {limit:g}."
            yield Alarm("massive activation", step, math.inf, said)

    def _growing(self, step: int, numbers: dict[str, float], ratios: Sequence[float]) -> Iterator[Alarm]:
        times, ratio = self.alarms.ratio_growing_for, numbers.get("norm_ratio/max")
        if times is None or ratio is None:
            return
        last = [*ratios, ratio][-times - 1 :]
        if len(last) == times + 1 and all(before < after for before, after in pairwise(last)):
            said = f"step {step}: the norm ratio grew over {times} measurements, from {last[0]:.4g} to {ratio:.4g}."
            yield Alarm("growing norm ratio", step, ratio, said)
