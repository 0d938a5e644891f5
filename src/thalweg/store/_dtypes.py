"""Column types as text, so that a run says what its tables hold."""

import re
from typing import Any

import polars as pl

_PLAIN = ("Boolean", "Date", "Datetime", "Float32", "Float64", "Int8", "Int16", "Int32", "Int64", "String")
_LIST = re.compile(r"List\((.+)\)\Z")


def dtype_name(dtype: Any) -> str:
    """Give the name of a type, such as ``Float64`` or ``List(Int64)``."""
    return str(dtype)


def dtype_of(name: str) -> Any:
    """Give the type of a name.

    Raises:
        ValueError: no such type is stored.
    """
    if inner := _LIST.match(name):
        return pl.List(dtype_of(inner[1]))
    if name not in _PLAIN:
        raise ValueError(f"expected one of {', '.join(_PLAIN)} or a List of one as type of a column, got {name!r}")
    return getattr(pl, name)()
