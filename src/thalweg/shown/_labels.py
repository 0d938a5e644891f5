"""What to write on an axis: titles and units from the catalogue, and the few quantities that no column holds."""

from thalweg.catalogue import METRICS

_BY_NAME = {metric.name: metric for metric in METRICS}
# Quantities that one panel derives from columns; everything else comes from the catalogue.
_DERIVED_UNITS = {"sigma1": "activation units"}


def title(metric: str) -> str:
    """Give the metric's title, with a capital, or its name where the catalogue has none."""
    words = _BY_NAME[metric].title if metric in _BY_NAME else metric.replace("_", " ")
    return words[:1].upper() + words[1:]


def unit(metric: str) -> str:
    """Give the metric's unit in words; a score or a ratio may have none."""
    found = _BY_NAME[metric].unit if metric in _BY_NAME else _DERIVED_UNITS.get(metric, "")
    return found or "no unit"


def from_zero_to_one(metric: str) -> bool:
    """Say whether the metric's values lie between 0 and 1, so that its axis shows all of that."""
    return metric in _BY_NAME and (_BY_NAME[metric].low, _BY_NAME[metric].high) == (0.0, 1.0)
