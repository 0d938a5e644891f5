"""When the monitor raises its voice."""

import logging
import math
from collections import deque
from itertools import pairwise

from thalweg.monitor._options import Alarm, Alarms

_log = logging.getLogger("thalweg.monitor")


class Watch:
    """Keeps what the alarms need of earlier measurements."""

    def __init__(self, alarms: Alarms) -> None:
        self.alarms = alarms
        self.raised = list[Alarm]()
        self._ratios = deque[float](maxlen=(alarms.ratio_growing_for or 0) + 1)

    def look(self, step: int, found: dict[str, float]) -> list[Alarm]:
        """Raise what there is to raise at this step."""
        raised = list[Alarm]()
        if self.alarms.massive_above is not None:
            raised += self._massive(step, found, self.alarms.massive_above)
        times, ratio = self.alarms.ratio_growing_for, found.get("norm_ratio/max")
        if times is not None and ratio is not None:
            self._ratios.append(ratio)
            held = list(self._ratios)
            if len(held) == times + 1 and all(before < after for before, after in pairwise(held)):
                said = f"step {step}: the norm ratio grew over {times} measurements, from {held[0]:.4g} to {ratio:.4g}."
                raised.append(Alarm("growing norm ratio", step, ratio, said))
        self.raised += raised
        for alarm in raised:
            _log.warning("%s", alarm.message)
            if self.alarms.on_alarm is not None:
                self.alarms.on_alarm(alarm)
        return raised

    def _massive(self, step: int, found: dict[str, float], limit: float) -> list[Alarm]:
        peak = found.get("peak_value/max", 0.0)
        if abs(peak) > limit:
            said = f"step {step}: an activation of {peak:.4g} is above the limit of {limit:g}."
            return [Alarm("massive activation", step, peak, said)]
        if states := found.get("nonfinite_states", 0.0):
            said = f"step {step}: {states:.0f} states hold NaN or Inf; the limit is {limit:g}."
            return [Alarm("massive activation", step, math.inf, said)]
        return []
