"""The command line: every verb is a library function, its options the function's signature, its help the docstring.

Data goes to stdout, talk and progress to stderr. ``thalweg --help`` imports no torch. Exit codes: 0 done, 2 the person
has to change something, 3 some of it is missing and named, 4 a bound of the theory was violated, 130 interrupted.

Reading order: :mod:`._verbs` (what verbs there are, a function as a command, and what came of it), :mod:`._app` (the
application, and what is said of a command that is not understood).
"""

from thalweg.cli._app import main

__all__ = ["main"]
