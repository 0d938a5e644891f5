"""The command line: one file a verb, each parses, calls one library function, and prints.

Data goes to stdout, talk and progress to stderr. ``thalweg --help`` imports no torch. Exit codes: 0 done, 2 the person
has to change something, 3 some of it is missing and named, 4 a bound of the theory was violated, 130 interrupted.

Reading order: :mod:`._app` (the verbs and the errors), then a file a verb, :mod:`._survey`, :mod:`._checkpoints`,
:mod:`._contrast`, :mod:`._ablate`, :mod:`._clip`, :mod:`._attribute`, :mod:`._lens`, :mod:`._mcq`, :mod:`._probe`,
:mod:`._mteb`, :mod:`._advise`, :mod:`._figures`, :mod:`._report`, :mod:`._verify`, :mod:`._list`, and what they share,
:mod:`._options`, :mod:`._experiment`, :mod:`._tables`, :mod:`._memory`.
"""

from thalweg.cli._app import main

__all__ = ["main"]
