"""The application: its verbs, and what a person sees when something goes wrong."""

import os
import sys
import warnings
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from thalweg import __version__
from thalweg.cli._ablate import ablate
from thalweg.cli._advise import advise
from thalweg.cli._attribute import attribute
from thalweg.cli._checkpoints import checkpoints
from thalweg.cli._clip import clip
from thalweg.cli._contrast import contrast
from thalweg.cli._figures import figures
from thalweg.cli._lens import lens
from thalweg.cli._list import listing
from thalweg.cli._mcq import mcq
from thalweg.cli._mteb import mteb
from thalweg.cli._probe import probe
from thalweg.cli._report import report
from thalweg.cli._survey import survey
from thalweg.cli._tables import printable
from thalweg.cli._verify import verify
from thalweg.errors import ThalwegError

INTERRUPTED = 130
MISUSE: Any = typer.BadParameter.__base__
"""What the parser raises for every misuse; typer carries a click of its own and does not export it."""

app = typer.Typer(
    name="thalweg",
    help="Follow a language model through its depth: attention sinks, compression valleys, massive activations.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel="Measure")(survey)
app.command(rich_help_panel="Measure")(checkpoints)
app.command(rich_help_panel="Measure")(contrast)
app.command(rich_help_panel="Intervene")(ablate)
app.command(rich_help_panel="Intervene")(clip)
app.command(rich_help_panel="Intervene")(attribute)
app.command(rich_help_panel="Downstream")(probe)
app.command(rich_help_panel="Downstream")(mteb)
app.command(rich_help_panel="Downstream")(advise)
app.command(rich_help_panel="Downstream")(lens)
app.command(rich_help_panel="Downstream")(mcq)
app.command(rich_help_panel="Look")(figures)
app.command(rich_help_panel="Look")(report)
app.command(rich_help_panel="Check")(verify)
app.command("list", rich_help_panel="Check")(listing)


def _print_version(asked: bool) -> bool:
    if asked:
        typer.echo(__version__)
        raise typer.Exit
    return asked


@app.callback()
def thalweg(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Follow a language model through its depth: attention sinks, compression valleys, massive activations."""


def main() -> None:
    """Run the command line; a person's mistake is one line on stderr and exit code 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        warnings.simplefilter("ignore", DeprecationWarning)
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="thalweg", standalone_mode=False) or 0
        sys.stdout.flush()  # here, where a closed pipe is expected
        if code == INTERRUPTED:  # the parser turns Ctrl-C into an exit code and says nothing
            raise KeyboardInterrupt
        sys.exit(code)
    except ThalwegError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except MISUSE as error:  # an unknown verb or option, a value that does not fit
        where = error.ctx.command_path if error.ctx else "thalweg"
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        _complain(f"{message}{'' if message.endswith('?') else '.'} See `{where} --help`.")
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted; what is finished stays, and the same command goes on from there.")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _complain(message: str) -> None:
    line = printable(" ".join(message.split()))
    Console(stderr=True).print(Text(f"thalweg: {line}"), soft_wrap=True)
