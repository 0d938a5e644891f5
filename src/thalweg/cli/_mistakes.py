"""What is said of a command line that is not understood: one line, with the nearest name, and where to look."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)

from thalweg.validated import line_of


def mistake_in_a_line(error: CycloptsError, verbs: Iterable[str]) -> str:
    """Say what was expected, what came and where to look."""
    if isinstance(error, ValidationError) and (line := _not_taken(error)):
        return line
    said = _said(error, [*verbs])
    where = " ".join(["thalweg", *(error.command_chain or ())])
    return f"{said}{'' if said.endswith('?') else '.'} See `{where} --help`."


def _not_taken(error: ValidationError) -> str | None:
    """What the option itself says of a value that it does not take."""
    argument = error.argument
    given = argument.tokens[-1].value if argument and argument.tokens else ""
    return line_of(argument.field_info.annotation, given) if argument else None


def _said(error: CycloptsError, verbs: list[str]) -> str:
    match error:
        case UnknownCommandError():
            return _unknown((error.unused_tokens or [""])[0], verbs)
        case UnknownOptionError():
            return _unknown(error.token.keyword or error.token.value, _options(error.argument_collection))
        case UnusedCliTokensError():
            return f"Got unexpected extra argument ({' '.join(error.unused_tokens or ())})"
        case MissingArgumentError():
            return _missing(error)
        case CoercionError():
            return _unfit(error)
    return " ".join(str(error).split()).rstrip(".")


def _unknown(given: str, known: list[str]) -> str:
    what = "option:" if given.startswith("-") else "command"
    named = given.partition("=")[0] if given.startswith("-") else repr(given)
    nearest = get_close_matches(given.partition("=")[0], known, n=1)
    return f"No such {what} {named}" + (f". Did you mean {_quoted(nearest[0])}?" if nearest else "")


def _quoted(name: str) -> str:
    return name if name.startswith("-") else repr(name)


def _options(arguments: Any) -> list[str]:
    return [name for argument in arguments if argument.parse for name in argument.names]


def _missing(error: MissingArgumentError) -> str:
    argument = error.argument
    name = error.keyword or (argument.name if argument else "")
    if name.startswith("-") and (argument is None or not _positional(argument)):
        return f"Option '{name}' requires an argument"
    choices = argument.get_choices(force=True) if argument else None
    return f"Missing argument '{name.lstrip('-')}'" + (f"; expected {', '.join(choices)}" if choices else "")


def _positional(argument: Any) -> bool:
    return argument.field_info.is_positional_only


def _unfit(error: CoercionError) -> str:
    argument, token = error.argument, error.token
    name = (token.keyword if token else None) or (argument.name if argument else "")
    value = repr(token.value) if token else "the value"
    choices = argument.get_choices(force=True) if argument else None
    if choices:
        listed = ", ".join(repr(choice) for choice in choices)
        nearest = get_close_matches(token.value if token else "", choices, n=1)
        said = f"Invalid value for '{name}': {value} is not one of {listed}"
        return f"{said}. Did you mean {nearest[0]!r}?" if nearest else said
    kinds = {int: "a whole number", float: "a number", bool: "yes or no"}
    return f"Invalid value for '{name}': {value} is not {kinds.get(error.target_type or object, 'understood')}"
