"""What happens inside a model while it is being trained?

In reading order: ``_options`` what is asked, and the alarms · ``_monitor`` any loop · ``_trainer`` transformers'
Trainer · ``_lightning`` Lightning · ``_record`` the run directory, and numbers for trackers · ``_untouched`` how
training is left as it is, with weights that several processes hold too.
"""

from typing import TYPE_CHECKING

from thalweg.monitor._monitor import Monitor
from thalweg.monitor._options import Alarm, Alarms, MonitorOptions
from thalweg.monitor._trainer import ThalwegCallback, watch

if TYPE_CHECKING:
    from thalweg.monitor._lightning import ThalwegLightningCallback

__all__ = ["Alarm", "Alarms", "Monitor", "MonitorOptions", "ThalwegCallback", "ThalwegLightningCallback", "watch"]


def __getattr__(name: str) -> object:
    if name == "ThalwegLightningCallback":  # Lightning is imported when it is asked for
        from thalweg.monitor._lightning import ThalwegLightningCallback

        return ThalwegLightningCallback
    raise AttributeError(f"module 'thalweg.monitor' has no attribute {name!r}")
