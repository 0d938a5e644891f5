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
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from thalweg.errors import DataError
from thalweg.prompts._hub_errors import hub_error, is_out_of_reach
from thalweg.prompts._hub_table import HubData

_NAME = re.compile(r"(?P<id>[^@:]+)(@(?P<revision>[^:]+))?(:(?P<config>[^:]*))?(:(?P<split>[^:]+))?")


@dataclass(frozen=True)
class HubRows:
    """The rows of one data set on the hub."""

    hub_id: str
    revision: str | None
    configs: tuple[str, ...]
    data_dir: str | None
    split: str
    _streams: dict[str | None, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def fields(self) -> tuple[str, ...]:
        """The keys of the first row."""
        return tuple(next(self.records((), 0, 1), {}))

    def records(self, fields: tuple[str, ...], start: int, stop: int | None) -> Iterator[Mapping[str, object]]:  # noqa: ARG002 (rows come whole)
        """Rows as they are streamed; no more are pulled than ``stop`` asks for.

        Raises:
            DataError: The hub, the data set, the configuration, the split or the access is missing.
        """
        try:
            rows = chain.from_iterable(self._loaded(config) for config in self.configs or (None,))
            yield from islice(rows, start, stop)
        except Exception as error:  # whatever the hub libraries raise, a person gets one line
            raise hub_error(error, self.identity()) from error

    def count(self) -> int | None:
        """How many rows the data set's own description promises; None where it says nothing."""
        try:
            described = [_described(self._loaded(config), self.split) for config in self.configs or (None,)]
        except Exception as error:  # the same
            raise hub_error(error, self.identity()) from error
        return None if None in described else sum(rows for rows in described if rows is not None)

    def identity(self) -> dict[str, str | None]:
        """Where the rows come from; the revision is the commit, where it is known."""
        return {
            "hub_id": self.hub_id,
            "revision": self.revision,
            "config": "+".join(self.configs) or None,
            "data_dir": self.data_dir,
            "split": self.split,
        }

    def pinned(self) -> "HubRows":
        """The same rows at the commit that the revision names now, so that a long run reads one state of the data.

        Raises:
            DataError: The hub is out of reach, or a folder here has the data set's name.
        """
        from huggingface_hub import HfApi

        if Path(self.hub_id).exists():
            raise DataError(
                f"{self.hub_id}: expected the hub's data set; got a folder of that name here, which would be read "
                "in its place. Rename the folder, or start from another one."
            )
        try:
            commit = HfApi().dataset_info(self.hub_id, revision=self.revision, timeout=30).sha
        except Exception as error:
            if is_out_of_reach(error):  # said at once: loading would try again for half a minute
                raise hub_error(error, self.identity()) from error
            return self  # refused, or offline: loading decides, it may have a copy, and its error says more
        return replace(self, revision=commit)

    def _loaded(self, config: str | None) -> Iterable[Mapping[str, object]]:
        import datasets

        if config not in self._streams:  # opening asks the hub for its list of files, reading again need not
            self._streams[config] = datasets.load_dataset(
                self.hub_id, config, data_dir=self.data_dir, split=self.split, revision=self.revision, streaming=True
            )
        return self._streams[config]


def parse_hub_name(data: str, known: HubData | None) -> HubRows:
    """What ``organisation/name@revision:config:split`` stands for; a short name's row fills what is left out.

    Raises:
        DataError: The name is not written that way.
    """
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


def _described(rows: Any, split: str) -> int | None:
    """The number of rows in a loaded data set's description."""
    splits = getattr(getattr(rows, "info", None), "splits", None) or {}
    return (splits[split].num_examples or None) if split in splits else None
