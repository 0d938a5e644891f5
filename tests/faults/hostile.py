"""Headers that somebody wrote on purpose: values that fit no run, under a checksum that is right."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thalweg.store import _files

DEEP = 100_000
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    3,
    10**6,
    10**12,
    10**30,
    1e308,
    0.5,
    "",
    " ",
    "x",
    "../x",
    "/etc/passwd",
    "<script>alert(1)</script>",
    "\x1b[31m\r\nred\0",
    "\u202e$\\frac{",
    "x" * 10**5,
    "List(" * 2000 + "Int64" + ")" * 2000,
    "Float64",
    "2026-02-30T00:00:00Z",
    "9999-12-31T23:59:59Z",
    [],
    [0],
    {},
    {"x": 1},
    {"../x": {"kind": "whole", "columns": {"x": "Int64"}}},
)


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is a value, however deep."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*before, key)
            yield from places(value[key], (*before, key))


def changed(values: dict[str, Any], chance: random.Random) -> tuple[dict[str, Any], str]:
    """The same document with one value changed, left out or there twice; and what was done."""
    document = copy.deepcopy(values)
    *way, last = chance.choice(list(places(document)))
    holder = document
    for key in way:
        holder = holder[key]
    where, harm = ".".join(map(str, (*way, last))), chance.random()
    if harm < 0.1:
        del holder[last]
        return document, f"without {where}"
    if harm < 0.2 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[last]))
        return document, f"{where} twice"
    if harm < 0.3 and isinstance(holder, dict):
        holder[str(chance.choice(VALUES))[:20]] = holder.pop(last)
        return document, f"{where} under another name"
    holder[last] = chance.choice(VALUES)
    return document, f"{where} = {holder[last]!r:.60}"


def write(file: Path, values: dict[str, Any]) -> None:
    """Write a document under a checksum that is right."""
    file.write_text(json.dumps({**values, _files.CHECKSUM: _files._checksum(values)}, ensure_ascii=True))


def nested(file: Path) -> None:
    """Write nothing but brackets."""
    file.write_text("[" * DEEP + "]" * DEEP)
