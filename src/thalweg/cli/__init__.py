"""The command line: one file a verb, each parses, calls one library function, and prints.

Data goes to stdout, talk and progress to stderr. ``thalweg --help`` imports no torch. Exit codes: 0 done, 2 the person
has to change something, 4 a bound of the theory was violated, 130 interrupted.
"""

from thalweg.cli._app import main

__all__ = ["main"]
