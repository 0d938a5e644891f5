"""When the monitor raises its voice."""

import logging
from collections import deque
from itertools import pairwise

from thalweg.monitor._options import Alarm, Alarms

__all__ = ["Watch"]

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
        limit, peak = self.alarms.massive_above, found.get("peak_value/max")
        if limit is not None and peak is not None and abs(peak) > limit:
            said = f"step {step}: an activation of {peak:.4g} is above the limit of {limit:g}."
            raised.append(Alarm("massive activation", step, peak, said))
        times, ratio = self.alarms.ratio_growing_for, found.get("norm_ratio/max")
        if times is not None and ratio is not None:
            self._ratios.append(ratio)
            held = list(self._ratios)
            if len(held) == times + 1 and all(before < after for before, after in pairwise(held)):
                said = f"step {step}: the norm ratio grew over {times} measurements, from {held[0]:.4g} to {ratio:.4g}."
                raised.append(Alarm("growing norm ratio", step, ratio, said))
        for alarm in raised:
            _log.warning("%s", alarm.message)
            if self.alarms.on_alarm is not None:
                self.alarms.on_alarm(alarm)
        self.raised += raised
        return raised
