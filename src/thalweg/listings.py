"""What is there to measure, on which models, of which data? Lists, made without a model."""

from typing import Literal

__all__ = ["listing"]

Listed = Literal["metrics", "models", "data"]


def listing(what: Listed) -> list[dict[str, str]]:
    """List every metric with its unit and range, the model families proved by tests, or the data sets by short name.

    On the command line:

        thalweg list metrics

    Args:
        what: what to list.

    Returns:
        A row for each, by the names of the columns.

    Example:
        >>> listing("metrics")[0]["metric"]
        'sink_norm'
    """
    return {"metrics": _metrics, "models": _models, "data": _data}[what]()


def _metrics() -> list[dict[str, str]]:
    from thalweg.catalogue import METRICS

    return [
        {
            "metric": metric.name,
            "of": metric.site,
            "unit": metric.unit,
            "range": metric.range,
            "reads as": metric.reads_as,
        }
        for metric in METRICS
    ]


def _models() -> list[dict[str, str]]:
    from thalweg.capture import PROVED

    return [{"family": family, "attention seen through": path} for family, path in sorted(PROVED.items())]


def _data() -> list[dict[str, str]]:
    from thalweg.prompts import list_data

    return [
        {
            "name": data.name,
            "hub id": data.hub_id or "-",
            "config": ", ".join(data.configs) or data.data_dir or "-",
            "split": data.split,
            "fields": " + ".join(data.fields),
            "access": "gated" if data.gated else "",
            "note": data.note,
        }
        for data in list_data()
    ]
