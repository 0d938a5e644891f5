"""Every error a user can meet, in one tree.

::

    ThalwegError
    ├── NotMeasured            a part could not be measured for a reason that can pass: exit code 3
    └── UsageError             the person has to act: exit code 2
        ├── ModelError         a model cannot be loaded, or is not a decoder-only model
        ├── ProofError         a model's parts could not be proved
        ├── DataError          prompts cannot be read
        ├── RunError           a run directory cannot be used
        └── OverflowInFloat16  a float16 model left its range

A message says what was expected, what came, and what to do.
"""

__all__ = [
    "DataError",
    "ModelError",
    "NotMeasured",
    "OverflowInFloat16",
    "ProofError",
    "RunError",
    "ThalwegError",
    "UsageError",
]


class ThalwegError(Exception):
    """Base of everything thalweg raises on purpose."""

    exit_code = 1

    def __init__(self, said: str = "") -> None:
        """One line, whatever the names in it hold."""
        super().__init__(" ".join(said.splitlines()))


class NotMeasured(ThalwegError):
    """Something that can pass, such as a full memory, kept a part from being measured: the same command measures it."""

    exit_code = 3


class UsageError(ThalwegError):
    """The person who called has to change something."""

    exit_code = 2


class ModelError(UsageError):
    """A model cannot be found, loaded safely, or measured at all."""


class ProofError(UsageError):
    """A model's parts are not where they were looked for, or do not do what they should."""


class DataError(UsageError):
    """Prompts cannot be read: missing, empty, broken, or without the field asked for."""


class RunError(UsageError):
    """A run directory belongs to another run, cannot be written, or is no run at all."""


class OverflowInFloat16(UsageError):
    """A float16 activation left the range of the format (65504)."""
