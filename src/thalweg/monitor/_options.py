"""What a monitor is asked, checked before training begins."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from thalweg.errors import UsageError
from thalweg.experiments import SurveyOptions


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


@dataclass(frozen=True)
class Alarms:
    """When to raise the alarm; None switches one off.

    Attributes:
        massive_above: largest |x_ij| of any state above this, or not finite.
        ratio_growing_for: the largest norm ratio of any state grew over this many measurements in a row.
        on_alarm: called with each alarm, beside the line in the log; what it raises is the training's to handle.
        stop: ask the training to stop. The callbacks tell their trainer; a loop of one's own asks
            :attr:`Monitor.should_stop`.
    """

    massive_above: float | None = None
    ratio_growing_for: int | None = None
    on_alarm: Callable[[Alarm], None] | None = None
    stop: bool = False

    def __post_init__(self) -> None:
        if self.massive_above is not None and not self.massive_above > 0:
            raise UsageError(f"massive_above is a magnitude, above 0; got {self.massive_above:g}.")
        if self.ratio_growing_for is not None and not _is_count(self.ratio_growing_for):
            raise UsageError(f"ratio_growing_for counts measurements, from 1; got {self.ratio_growing_for!r}.")
        if (self.stop or self.on_alarm is not None) and not self.any:
            raise UsageError("stop and on_alarm need an alarm; give massive_above or ratio_growing_for.")

    @property
    def any(self) -> bool:
        """Whether one is switched on."""
        return self.massive_above is not None or self.ratio_growing_for is not None


@dataclass(frozen=True)
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

    every: int = 500
    prompts: int = 8
    max_length: int = 256
    tau: float = 0.3
    sink_position: int = 0
    massive_ratio: float = 10.0
    bos: str = "auto"
    alarms: Alarms = field(default_factory=Alarms)
    strict: bool = False

    def __post_init__(self) -> None:
        for name in ("every", "prompts"):
            value = getattr(self, name)
            if not _is_count(value):
                raise UsageError(f"{name} must be an integer, at least 1; got {value!r}.")
        _ = self.survey  # checks the rest

    @property
    def survey(self) -> SurveyOptions:
        """The same as options of a survey: one of a saved checkpoint gives the same numbers."""
        bos = self.bos
        if bos not in ("auto", "always", "never"):
            raise UsageError(f"bos must be auto, always or never; got {bos!r}.")
        return SurveyOptions(
            limit=self.prompts,
            max_length=self.max_length,
            bos=bos,
            tau=self.tau,
            sink_position=self.sink_position,
            massive_ratio=self.massive_ratio,
            progress=False,
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= sys.maxsize
