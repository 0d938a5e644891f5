"""What several rooms are asked, known without torch: thresholds by default, and how a model is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["MASSIVE_RATIO", "TAU", "LoadOptions"]

TAU = 0.3
"""Sink score from which a head is a sink (the paper, section 2)."""
MASSIVE_RATIO = 10.0
"""Row norm over median row norm from which a row is massive."""


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded.

    Attributes:
        revision: branch, tag or commit on the hub.
        dtype: "auto" (as saved), "float32", "float64", "bfloat16" or "float16".
        device: "cpu", "cuda", "cuda:1", "mps"; None takes cuda where there is one.
        device_map: "auto" spreads the model over what there is, memory and disk included.
        max_memory: limits for ``device_map``, such as ``{"cpu": "8GiB"}``.
        offload_folder: where blocks that fit nowhere are kept.
        allow_pickle: read pickled weights as well; they can run code.
        trust_remote_code: run the code that comes with a model.
    """

    revision: str | None = None
    dtype: str = "auto"
    device: str | None = None
    device_map: str | None = None
    max_memory: Mapping[str | int, str | int] | None = None
    offload_folder: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
