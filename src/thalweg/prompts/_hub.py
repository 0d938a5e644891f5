"""Data sets on the hub, streamed: reading 500 rows of a terabyte reads 500 rows.

Any of them is named ``organisation/name``, optionally with a revision, a configuration and a split. Configurations
joined by ``+`` are read one after the other; one with a slash in it is a folder of the repository::

    organisation/name
    organisation/name@revision:config:split
    organisation/name::validation

Loading scripts are never run.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

from thalweg.errors import DataError
from thalweg.paths import is_there
from thalweg.prompts._data_sets import HubData
from thalweg.prompts._rows import Reader

_NAME = re.compile(r"(?P<id>[^@:]+)(@(?P<revision>[^:]+))?(:(?P<config>[^:]*))?(:(?P<split>[^:]+))?")
_NO_ACCESS = (
    "access to the data set; got a gated one without permission. "
    "Accept its terms on https://huggingface.co/datasets/{hub_id} and log in with `hf auth login`."
)
# fmt: off
_FAILURES = (
    ("gated", _NO_ACCESS),
    ("scripts are no longer supported|trust_remote_code",
     "data files; got a loading script, which thalweg never runs. "
     "Try its converted copy, {hub_id}@refs/convert/parquet, or another data set."),
    ("offline", "the hub; got offline mode (HF_HUB_OFFLINE). Unset it, or pass a local file as --data."),
    ("Config name is missing|BuilderConfig .* not found",
     "one of the configurations {choices}; got {config}. Write --data {hub_id}:CONFIG."),
    ("Bad split|Unknown split",
     "one of the splits {choices}; got {split}. "
     "Write --data {hub_id}:CONFIG:SPLIT, or {hub_id}::SPLIT for the default configuration."),
    ("Revision .* doesn't exist|RevisionNotFound",
     "a revision of the data set; got {revision}, which is none. "
     "See https://huggingface.co/datasets/{hub_id}/tree/main."),
    ("DatasetNotFound|RepositoryNotFound|doesn't exist on the hub",
     "a data set on the hub; got none of that name, or a private one. "
     "Check the name, log in with `hf auth login` if it is private, or see `thalweg list data`."),
    (r"\b40[13]\b", _NO_ACCESS),
    (r"connect|resolution|timed? ?out|timeout|unreachable|couldn't reach|network|ssl|\b50[0234]\b",
     "to reach the hub; got {found}. "
     "Check the network, set HF_HUB_OFFLINE=1 to use a copy downloaded before, or pass a local file as --data."),
    ("", "a data set that streams from the hub; got {found}. See https://huggingface.co/datasets/{hub_id}."),
)
# fmt: on
"""A pattern in the text of an error; what was expected, what came and what to do. The first one found wins."""


@dataclass(frozen=True)
class HubRows(Reader):
    """The rows of one data set on the hub."""

    hub_id: str
    revision: str | None
    configs: tuple[str, ...]
    data_dir: str | None
    split: str
    _streams: dict[str | None, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def records(self, fields: tuple[str, ...], start: int, stop: int | None) -> Iterator[Mapping[str, object]]:  # noqa: ARG002 (rows come whole)
        """Rows as they are streamed; no more are pulled than ``stop`` asks for."""
        try:
            rows = chain.from_iterable(self._loaded(config) for config in self.configs or (None,))
            yield from islice(rows, start, stop)
        except Exception as error:  # whatever the hub libraries raise, a person gets one line
            raise _hub_error(error, self.identity()) from error

    def count(self) -> int | None:
        try:
            described = [_described(self._loaded(config), self.split) for config in self.configs or (None,)]
        except Exception as error:  # the same
            raise _hub_error(error, self.identity()) from error
        return sum(described) if all(described) else None

    def identity(self) -> dict[str, str | None]:
        return {
            "hub_id": self.hub_id,
            "revision": self.revision,
            "config": "+".join(self.configs) or None,
            "data_dir": self.data_dir,
            "split": self.split,
        }

    def pinned(self) -> "HubRows":
        """The same rows at the commit that the revision names now, so that a long run reads one state of the data."""
        from huggingface_hub import HfApi

        if is_there(self.hub_id):
            raise DataError(
                f"{self.hub_id}: expected the hub's data set; got a folder of that name here, which would be read "
                "in its place. Rename the folder, or start from another one."
            )
        try:
            commit = HfApi().dataset_info(self.hub_id, revision=self.revision, timeout=30).sha
        except Exception as error:
            if _is_out_of_reach(error):  # said at once: loading would try again for half a minute
                raise _hub_error(error, self.identity()) from error
            return self  # refused, or offline: loading decides, it may have a copy, and its error says more
        return replace(self, revision=commit)

    def _loaded(self, config: str | None) -> Iterable[Mapping[str, object]]:
        import datasets

        if config not in self._streams:  # opening asks the hub for its list of files, reading again need not
            of_all = {"data_dir": self.data_dir, "split": self.split, "revision": self.revision, "streaming": True}
            with uncounted():
                self._streams[config] = datasets.load_dataset(self.hub_id, config, **of_all)
        return self._streams[config]


@contextmanager
def uncounted() -> Iterator[None]:
    """Without the request by which datasets tells another host of every load, that of local files too."""
    from datasets import config

    before, config.HF_UPDATE_DOWNLOAD_COUNTS = config.HF_UPDATE_DOWNLOAD_COUNTS, False
    try:
        yield
    finally:
        config.HF_UPDATE_DOWNLOAD_COUNTS = before


def parse_hub_name(data: str, known: HubData | None) -> HubRows:
    """What ``organisation/name@revision:config:split`` stands for; a short name's row fills what is left out."""
    match = _NAME.fullmatch(data)
    if match is None:
        raise DataError(f"--data {data}: expected organisation/name@revision:config:split; got something else.")
    config, hub_id, split = match["config"], match["id"], match["split"] or "train"
    configs: tuple[str, ...] = tuple(config.split("+")) if config and "/" not in config else ()
    data_dir = config if config and "/" in config else None
    if known is not None and known.hub_id is not None:
        hub_id, split = known.hub_id, match["split"] or known.split
        configs, data_dir = (configs, data_dir) if config else (known.configs, known.data_dir)
    return HubRows(hub_id, match["revision"], configs, data_dir, split)


def _described(rows: Any, split: str) -> int:
    """The number of rows in a loaded data set's description, 0 where it says nothing."""
    splits = getattr(getattr(rows, "info", None), "splits", None) or {}
    return (splits[split].num_examples or 0) if split in splits else 0


def _hub_error(error: Exception, origin: dict[str, str | None]) -> DataError:
    """One line for a person who asked for data of this identity and got this error.

    The hub libraries raise a dozen kinds of error, many of them shared by unlike failures; what tells them apart is
    their text. An earlier failure may say what a later one says too.
    """
    if isinstance(error, DataError):
        return error
    text = " ".join(f"{type(error).__name__}: {error}".split())
    line = next(line for pattern, line in _FAILURES if re.search(pattern, text, re.IGNORECASE))
    words = {name: value or "none" for name, value in origin.items()}
    return DataError(f"{origin['hub_id']}: expected {line.format(**words, found=text[:160], choices=_offered(text))}")


def _is_out_of_reach(error: Exception) -> bool:
    """Whether the hub did not answer at all; both generations of its client name such errors alike."""
    return re.search("Connect|Timeout|Proxy|Network", type(error).__name__) is not None


def _offered(text: str) -> str:
    """The names that an error of the datasets library offers instead."""
    offered = re.search(r"(?:available|pick one)[^\[]*\[([^\]]*)\]", text, re.IGNORECASE)
    return offered[1].replace("'", "") if offered else "on its page"
