"""The application: its verbs, and what a person sees when something goes wrong."""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)
from rich.console import Console
from rich.text import Text

from thalweg import __version__
from thalweg.cli._verbs import GROUPS, Verb, command_of, verbs
from thalweg.errors import ThalwegError
from thalweg.ranks import joined
from thalweg.shown import printable
from thalweg.validated import line_of

INTERRUPTED = 130
PARAMETERS = Parameter(negative=(), show_env_var=False, allow_repeating=True)
"""No option but those that are asked for, and of one that is given twice the last counts."""


def application(known: list[Verb]) -> App:
    """Give the parser of some verbs."""
    app = App(
        name="thalweg",
        help="Follow a language model through its depth: attention sinks, compression valleys, massive activations.",
        version=__version__,
        version_flags=["--version"],
        help_flags=["--help", "-h"],
        help_format="markdown",
        default_parameter=PARAMETERS,
        group_commands=Group("Options", sort_key=0),
        group_parameters=Group("Options", sort_key=1),
        group_arguments=Group("Arguments", sort_key=0),
        suppress_keyboard_interrupt=False,
    )
    app.register_install_completion_command(name="--install-completion", add_to_startup=False)
    groups = {name: Group(name, sort_key=number + 1) for number, name in enumerate(GROUPS)}
    for number, verb in enumerate(known):
        app.command(command_of(verb), name=verb.name, group=groups[verb.group], sort_key=number)
    return app


def main() -> None:
    """Run the command line; a person's mistake is one line on stderr and exit code 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        warnings.simplefilter("ignore", DeprecationWarning)
    try:
        with joined():
            code = _spoken(sys.argv[1:])
        sys.exit(code)
    except ThalwegError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _complain("interrupted; what is finished stays, and the same command goes on from there.")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _spoken(argv: list[str]) -> int:
    """Run one command, its log on stderr."""
    spoken = logging.StreamHandler()
    spoken.setFormatter(logging.Formatter("thalweg: %(message)s"))
    logging.getLogger("thalweg").handlers = [spoken]
    code = run(argv)
    sys.stdout.flush()  # here, where a closed pipe is expected
    return code


def run(argv: list[str]) -> int:
    """Run one command and give its exit code."""
    known = verbs()
    app = application(known)
    try:
        return app(argv, exit_on_error=False, print_error=False, result_action="return_value") or 0
    except CycloptsError as error:
        _complain(_mistake(error, [verb.name for verb in known]))
        return 2


def _complain(message: str) -> None:
    line = printable(" ".join(message.split()))
    Console(stderr=True).print(Text(f"thalweg: {line}"), soft_wrap=True)


def _mistake(error: CycloptsError, verbs: list[str]) -> str:
    """What was expected, what came, the nearest name, and where to look, in a line."""
    if isinstance(error, ValidationError) and (argument := error.argument):
        given = argument.tokens[-1].value if argument.tokens else ""
        if line := line_of(argument.field_info.annotation, given):
            return line
    said = _said(error, verbs)
    where = " ".join(["thalweg", *(error.command_chain or ())])
    return f"{said}{'' if said.endswith('?') else '.'} See `{where} --help`."


def _said(error: CycloptsError, verbs: list[str]) -> str:
    match error:
        case UnknownCommandError():
            return _unknown((error.unused_tokens or [""])[0], verbs)
        case UnknownOptionError():
            arguments: Any = error.argument_collection
            options = [name for argument in arguments if argument.parse for name in argument.names]
            return _unknown(error.token.keyword or error.token.value, options)
        case UnusedCliTokensError():
            return f"Got unexpected extra argument ({' '.join(error.unused_tokens or ())})"
        case MissingArgumentError():
            return _missing(error)
        case CoercionError():
            return _unfit(error)
    return " ".join(str(error).split()).rstrip(".")


def _unknown(given: str, known: list[str]) -> str:
    name, is_option = given.partition("=")[0], given.startswith("-")
    said = f"No such option: {name}" if is_option else f"No such command {given!r}"
    return said + _nearest(name, known)


def _nearest(given: str, known: Sequence[str]) -> str:
    nearest = get_close_matches(given, known, n=1)
    return "".join(f". Did you mean {name if name.startswith('-') else repr(name)}?" for name in nearest)


def _missing(error: MissingArgumentError) -> str:
    argument: Any = error.argument
    name = error.keyword or (argument.name if argument else "")
    if name.startswith("-") and (argument is None or not argument.field_info.is_positional_only):
        return f"Option '{name}' requires an argument"
    choices = argument.get_choices(force=True) if argument else None
    return f"Missing argument '{name.lstrip('-')}'" + (f"; expected {', '.join(choices)}" if choices else "")


def _unfit(error: CoercionError) -> str:
    argument, token = error.argument, error.token
    name = (token.keyword if token else None) or (argument.name if argument else "")
    said = f"Invalid value for '{name}': {repr(token.value) if token else 'the value'} is not"
    if choices := argument.get_choices(force=True) if argument else None:
        return f"{said} one of {', '.join(map(repr, choices))}{_nearest(token.value if token else '', choices)}"
    kinds = {int: "a whole number", float: "a number", bool: "yes or no"}
    return f"{said} {kinds.get(error.target_type or object, 'understood')}"
