"""The application: its verbs, and what a person sees when something goes wrong."""

import os
import sys
import warnings

from cyclopts import App, CycloptsError, Group, Parameter
from rich.console import Console
from rich.text import Text

from thalweg import __version__
from thalweg.cli._mistakes import mistake_in_a_line
from thalweg.cli._signature import command_of
from thalweg.cli._verbs import GROUPS, Verb, verbs
from thalweg.errors import ThalwegError
from thalweg.shown import printable

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
        code = run(sys.argv[1:])
        sys.stdout.flush()  # here, where a closed pipe is expected
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


def run(argv: list[str]) -> int:
    """Run one command and give its exit code."""
    known = verbs()
    app = application(known)
    try:
        return app(argv, exit_on_error=False, print_error=False, result_action="return_value") or 0
    except CycloptsError as error:
        _complain(mistake_in_a_line(error, [verb.name for verb in known]))
        return 2


def _complain(message: str) -> None:
    line = printable(" ".join(message.split()))
    Console(stderr=True).print(Text(f"thalweg: {line}"), soft_wrap=True)
