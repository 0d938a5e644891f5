"""One clear line for whatever goes wrong on the hub.

The hub libraries raise a dozen kinds of error, many of them shared by unlike failures; what tells them apart is their
text. The first row of the table whose pattern is found wins: an earlier failure may say what a later one says too.
"""

import re
from typing import NamedTuple

from thalweg.errors import DataError


class _Failure(NamedTuple):
    pattern: str
    expected: str
    came: str
    advice: str


_NO_ACCESS = (
    "access to the data set",
    "a gated one without permission",
    "Accept its terms on https://huggingface.co/datasets/{hub_id} and log in with `hf auth login`.",
)

_FAILURES: tuple[_Failure, ...] = (
    _Failure("gated", *_NO_ACCESS),
    _Failure(
        "scripts are no longer supported|trust_remote_code",
        "data files",
        "a loading script, which thalweg never runs",
        "Try its converted copy, {hub_id}@refs/convert/parquet, or another data set.",
    ),
    _Failure(
        "offline",
        "the hub",
        "offline mode (HF_HUB_OFFLINE)",
        "Unset it, or pass a local file as --data.",
    ),
    _Failure(
        "Config name is missing|BuilderConfig .* not found",
        "one of the configurations {choices}",
        "{config}",
        "Write --data {hub_id}:CONFIG.",
    ),
    _Failure(
        "Bad split|Unknown split",
        "one of the splits {choices}",
        "{split}",
        "Write --data {hub_id}:CONFIG:SPLIT, or {hub_id}::SPLIT for the default configuration.",
    ),
    _Failure(
        "Revision .* doesn't exist|RevisionNotFound",
        "a revision of the data set",
        "{revision}, which is none",
        "See https://huggingface.co/datasets/{hub_id}/tree/main.",
    ),
    _Failure(
        "DatasetNotFound|RepositoryNotFound|doesn't exist on the hub",
        "a data set on the hub",
        "none of that name, or a private one",
        "Check the name, log in with `hf auth login` if it is private, or see `thalweg list data`.",
    ),
    _Failure(r"\b40[13]\b", *_NO_ACCESS),
    _Failure(
        r"connect|resolution|timed? ?out|timeout|unreachable|couldn't reach|network|ssl|\b50[0234]\b",
        "to reach the hub",
        "{found}",
        "Check the network, set HF_HUB_OFFLINE=1 to use a copy downloaded before, or pass a local file as --data.",
    ),
    _Failure(
        "",
        "a data set that streams from the hub",
        "{found}",
        "See https://huggingface.co/datasets/{hub_id}.",
    ),
)


def hub_error(error: Exception, origin: dict[str, str | None]) -> DataError:
    """What to tell a person who asked for a data set and got this error.

    Args:
        error: What the hub libraries raised.
        origin: The identity of the rows: hub_id, revision, config, split.

    Returns:
        The error to raise, with what was expected, what came and what to do, in one line.
    """
    if isinstance(error, DataError):
        return error
    found = " ".join(f"{type(error).__name__}: {error}".split())
    failure = next(row for row in _FAILURES if re.search(row.pattern, found, re.IGNORECASE))
    words = {name: value or "none" for name, value in origin.items()} | {
        "found": found[:160],
        "choices": _offered(found),
    }
    line = f"expected {failure.expected}; got {failure.came}. {failure.advice}"
    return DataError(f"{origin['hub_id']}: {line.format(**words)}")


def is_out_of_reach(error: Exception) -> bool:
    """Whether the hub did not answer at all; both generations of its client name such errors alike."""
    return re.search("Connect|Timeout|Proxy|Network", type(error).__name__) is not None


def _offered(found: str) -> str:
    """The names that an error of the datasets library offers instead."""
    offered = re.search(r"(?:available|pick one)[^\[]*\[([^\]]*)\]", found, re.IGNORECASE)
    return offered[1].replace("'", "") if offered else "on its page"
