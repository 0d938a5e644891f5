"""What comes from others, spoilt at random: it ends in a result or in one line, runs nothing and calls nobody."""

import os
import random
import signal
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from thalweg.errors import ThalwegError

LONGEST = 60
NUMBERS = (0, 1, 2**16, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 3, 10**6, 10**9, 10**30, 0.0, 1.5, 1e300, float("nan"), float("-inf")),
    *("", "x", "canary", "canary.Model", "../x", "\0", "\ud800", "a\nb", "9" * 5000, "x" * 10_000, "evil/kernel"),
    *([], [1, 2], ["canary"], {}, {"a": {"b": 1}}, {"": "evil/kernel"}, [[[[[]]]]]),
)
"""Of any type and size."""


INTRUDERS = (b"\0", b"[" * 50_000, b"\xff\xfe", b'"', b"\n\n", b"9" * 5000, b"\xed\xa0")


class Canary:
    """Unpickled, it leaves a file behind.

    Attributes:
        file: the file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


class _Endless(BaseException):
    pass


@dataclass
class Outcomes:
    """How reading ended, spoilt input by spoilt input.

    Attributes:
        canary: what no input may create.
        wrong: what went wrong, by the name of the input.
        read, refused: how many gave a result, and a line.
    """

    canary: Path
    wrong: list[str] = field(default_factory=list)
    read: int = 0
    refused: int = 0

    def of(self, name: object, call: Callable[[], object]) -> None:
        """Read one input."""
        try:
            with _ending(), warnings.catch_warnings(action="ignore"):
                call()
            self.read += 1
        except ThalwegError as error:
            self.refused += 1
            if len(str(error).splitlines()) != 1:
                self.wrong.append(f"{name}: more than a line: {error}")
        except BaseException as error:
            self.wrong.append(f"{name}: {type(error).__name__}: {error}"[:300])
        if self.canary.exists():
            self.wrong.append(f"{name}: it ran")
            self.canary.rmdir()


@contextmanager
def _ending() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise _Endless(f"no end after {LONGEST} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def nobody_called() -> Iterator[None]:
    """Whoever looks up a host or connects to one fails, in Python; tests/faults/test_network.py watches the system."""

    def refuse(*given: Any, **_: Any) -> Any:
        raise AssertionError(f"asks the network: {given}")

    before = socket.socket.connect, socket.getaddrinfo
    socket.socket.connect = socket.getaddrinfo = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = before  # type: ignore[method-assign]


def spoilt(content: bytes, seed: int, end: int | None = None) -> bytes:
    """The same with a few bytes changed, a number in it that is none, cut, or with something in the midst.

    Args:
        content: of a file.
        seed: of the change.
        end: changes come before it, as where what follows are numbers of which any are right.
    """
    rng, changed = random.Random(seed), bytearray(content)
    place = rng.randrange(max(1, min(end or len(content), len(content))))
    match seed % 4:
        case 0:
            for _ in range(rng.randint(1, 4)):
                changed[rng.randrange(max(1, min(end or len(content), len(content))))] = rng.randrange(256)
        case 1:
            size = rng.choice((4, 8))
            changed[place : place + size] = (rng.choice(NUMBERS) % 2 ** (8 * size)).to_bytes(size, "little")
        case 2:
            del changed[place:]
        case _:
            changed[place:place] = rng.choice(
                (b"\0", b"[" * 50_000, b"\xff\xfe", b'"', b"\n\n", b"9" * 5000, b"\xed\xa0")
            )
    return bytes(changed)


def settings_of(rng: random.Random, known: dict[str, Any], more: tuple[str, ...] = ()) -> dict[str, Any]:
    """One or two settings, those of a file or others, with values of any type and size."""
    names = (*known, *more)
    return {rng.choice(names): rng.choice(VALUES) for _ in range(rng.randint(1, 2))}
