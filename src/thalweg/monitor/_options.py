"""What a monitor is asked, checked before training begins."""

from collections.abc import Callable
from dataclasses import dataclass, field

from thalweg.errors import UsageError
from thalweg.experiments import SurveyOptions

__all__ = ["Alarm", "Alarms", "MonitorOptions"]


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
        massive_above: largest |x_ij| of any state above this.
        ratio_growing_for: the largest norm ratio of any state grew over this many measurements in a row.
        on_alarm: called with each alarm, beside the line in the log.
    """

    massive_above: float | None = None
    ratio_growing_for: int | None = None
    on_alarm: Callable[[Alarm], None] | None = None

    def __post_init__(self) -> None:
        if self.massive_above is not None and not self.massive_above > 0:
            raise UsageError(f"massive_above is a magnitude, above 0; got {self.massive_above:g}.")
        if self.ratio_growing_for is not None and self.ratio_growing_for < 1:
            raise UsageError(f"ratio_growing_for counts measurements, from 1; got {self.ratio_growing_for}.")

    @property
    def any(self) -> bool:
        """Whether one is switched on."""
        return self.massive_above is not None or self.ratio_growing_for is not None


@dataclass(frozen=True)
class MonitorOptions:
    """Options of a monitor.

    Attributes:
        every: optimizer steps between two measurements. One measurement of the default prompts costs as much as a few
            training steps of ordinary size, so that 500 keeps the whole below 2% of the time.
        prompts: how many prompts of the data, from its first row.
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
            if not (isinstance(value, int) and value >= 1):
                raise UsageError(f"{name} must be an integer, at least 1; got {value!r}.")
        _ = self.survey  # checks the rest

    @property
    def survey(self) -> SurveyOptions:
        """The same as options of a survey."""
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
