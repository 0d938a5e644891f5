"""The command line: every verb is a library function, its options the function's signature, its help the docstring.

Data goes to stdout, talk and progress to stderr. ``thalweg --help`` imports no torch. Exit codes: 0 done, 2 the person
has to change something, 3 some of it is missing and named, 4 a bound of the theory was violated, 130 interrupted.

Reading order: :mod:`._verbs` (what verbs there are, a function as a command, and what came of it), :mod:`._app` (the
application, and what is said of a command that is not understood).
"""

import sys

__all__ = ["main"]

TIGHT = 1_600_000_000
"""Bytes of address space below which the libraries that thalweg is made of end the process, or wait for ever."""


def main() -> None:
    """Run the command line, where there is room for it."""
    if (room := _address_space()) is not None and room < TIGHT:
        sys.stderr.write(
            f"thalweg: an address space of {room / 1e6:,.0f} MB is too small: expected {TIGHT / 1e6:,.0f} MB at least. "
            f"Raise it: `ulimit -v {TIGHT // 1000}`, or unlimited.\n"
        )
        sys.exit(2)
    from thalweg.cli._app import main as begin

    begin()


def _address_space() -> int | None:
    """The limit that a person or a cluster has set; None where there is none."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limits
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit
