"""What several rooms are asked, known without torch: thresholds by default, and how a model is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter, Token
from pydantic import SkipValidation

from thalweg.errors import UsageError

__all__ = ["MASSIVE_RATIO", "TAU", "LoadOptions", "Switch"]

TAU = 0.3
"""Sink score from which a head is a sink (the paper, section 2)."""
MASSIVE_RATIO = 10.0
"""Row norm over median row norm from which a row is massive."""

Limits = Mapping[str | int, str | int]


def _limits(_: Any, tokens: Sequence[Token]) -> Limits:
    """``cpu=8GiB`` to {"cpu": "8GiB"}, ``0=20GiB`` to {0: "20GiB"}, as accelerate takes them."""
    limits = dict[str | int, str | int]()
    for limit in (token.value for token in tokens):
        place, equals, amount = limit.partition("=")
        if not (place and equals and amount):
            raise UsageError(f"--max-memory expects PLACE=AMOUNT such as cpu=8GiB; got {limit!r}.")
        limits[int(place) if place.isdigit() else place] = amount
    return limits


Switch = Annotated[bool, Parameter(show_default=False)]
"""What is off unless asked for."""
REPEATED = Parameter(n_tokens=-1, accepts_keys=False, converter=_limits, metavar="PLACE=AMOUNT")


@Parameter(name="*")
@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded.

    Attributes:
        revision: branch, tag or commit on the hub.
        dtype: "auto" (float32 on processors; as saved on accelerators, and where weights are quantized), "float32",
            "float64", "bfloat16" or "float16".
        device: where the model runs, such as "cpu", "cuda", "cuda:1" or "mps"; by default cuda where there is one.
        device_map: "auto" spreads the model over devices, memory and disk; "disk" reads it block by block.
            Without it, ``torchrun --nproc-per-node 2 -m thalweg survey MODEL`` gives each of two GPUs a share of every
            block.
        max_memory: limits for ``device_map``, such as ``{"cpu": "8GiB"}``; on the command line cpu=8GiB or 0=20GiB, and
            may be repeated.
        offload_folder: where blocks that fit nowhere are kept.
        allow_pickle: read pickled weights; they can run code.
        trust_remote_code: run the code that comes with a model.
    """

    revision: str | None = None
    dtype: SkipValidation[str] = "auto"
    device: str | None = None
    device_map: SkipValidation[str | None] = None
    max_memory: Annotated[SkipValidation[Limits | None], REPEATED] = None
    offload_folder: SkipValidation[str | None] = None
    allow_pickle: Switch = False
    trust_remote_code: Switch = False
