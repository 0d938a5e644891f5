"""What happens inside a model while it is being trained?

In reading order: ``_options`` what is asked · ``_monitor`` any loop · ``_trainer`` transformers' Trainer ·
``_lightning`` Lightning · ``_record`` the run directory · ``_scalars`` numbers for trackers · ``_alarms`` what should
not pass unnoticed · ``_untouched`` how training is left as it is.
"""

from thalweg.monitor._lightning import lightning_callback
from thalweg.monitor._monitor import Monitor
from thalweg.monitor._options import Alarm, Alarms, MonitorOptions
from thalweg.monitor._trainer import ThalwegCallback, watch

__all__ = ["Alarm", "Alarms", "Monitor", "MonitorOptions", "ThalwegCallback", "lightning_callback", "watch"]
