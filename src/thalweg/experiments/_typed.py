"""How a person types what Python takes as something else: lists by commas, and switches that turn something off."""

from collections.abc import Sequence
from typing import Any

from cyclopts import Parameter, Token


def _pieces(_: Any, tokens: Sequence[Token]) -> list[str]:
    return [piece.strip() for token in tokens for piece in token.value.split(",")]


def _named(_: Any, tokens: Sequence[Token]) -> list[str]:
    return [piece for piece in _pieces(_, tokens) if piece]


def _codes(_: Any, tokens: Sequence[Token]) -> list[str]:
    codes = _named(_, tokens)
    return [] if codes == ["all"] else codes


MODEL = Parameter(name="MODEL")
PIECES = Parameter(n_tokens=-1, converter=_pieces)
"""Several by commas, or repeated; what is empty is refused later."""
TASKS = Parameter(n_tokens=-1, converter=_named, name=("--task", "--tasks"))
"""The same without what is empty."""
CODES = Parameter(n_tokens=-1, converter=_codes)
"""The same, where the word all stands for none in particular."""
FLATTENED = Parameter(name="*")
"""An object by its fields."""


def switched_off_by(option: str) -> Parameter:
    """Give what is on the name of the option that turns it off, its only one on the command line."""
    return Parameter(name="", negative=option, show_default=False)
