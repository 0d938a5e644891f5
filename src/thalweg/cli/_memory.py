"""``--max-memory``: limits by place, as accelerate takes them."""

from thalweg.errors import UsageError


def memory_limits(limits: list[str] | None) -> dict[str | int, str | int] | None:
    """``cpu=8GiB`` to {"cpu": "8GiB"}, ``0=20GiB`` to {0: "20GiB"}; None where nothing is limited."""
    if not limits:
        return None
    parsed = dict[str | int, str | int]()
    for limit in limits:
        place, equals, amount = limit.partition("=")
        if not (place and equals and amount):
            raise UsageError(f"--max-memory expects PLACE=AMOUNT such as cpu=8GiB; got {limit!r}.")
        parsed[int(place) if place.isdigit() else place] = amount
    return parsed
