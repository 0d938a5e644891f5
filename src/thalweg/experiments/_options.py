"""What a survey can be asked, checked before anything is loaded."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thalweg.errors import UsageError
from thalweg.options import MASSIVE_RATIO, TAU, LoadOptions

BUNDLED_MODEL, BUNDLED_DATA = "reference", "bundled"
"""What comes with thalweg; by their names, since the room that has them imports torch."""
ENGINES = ("local",)
Names = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class SurveyOptions:
    """Options of a survey; the command line's have the same names.

    Attributes:
        text_field: field of the data that holds the text; several joined by ``+``.
        whole_file: one prompt of a ``.txt`` file instead of one a line.
        limit: first rows of the data to measure; None for all.
        max_length: longest prompt in tokens; longer ones are cut.
        bos: "auto" (as the tokenizer does), "always" or "never".
        revision: of the models on the hub.
        dtype: "auto" (as saved), "float32", "float64", "bfloat16" or "float16".
        device: where the model runs; None takes cuda where there is one.
        device_map: "auto" spreads a model over devices, memory and disk.
        max_memory: limits for ``device_map``.
        offload_folder: where blocks that fit nowhere are kept.
        allow_pickle: read pickled weights.
        trust_remote_code: run code that comes with a model.
        tau: sink score from which a head is a sink.
        sink_position: position of the sink token.
        massive_ratio: row norm over median row norm from which a row is massive.
        variants: also measure what other authors publish as the entropy.
        keep_text: keep the prompts' text in the run.
        seed: written into the run; a survey draws nothing.
        engine: "local".
        batch_tokens: padded tokens of a forward pass; None chooses by device. Changes no number.
        batch_size: prompts of a forward pass at most.
        shard_rows: rows written together.
        progress: show a bar on a terminal.
    """

    text_field: str | None = None
    whole_file: bool = False
    limit: int | None = None
    max_length: int = 1024
    bos: Literal["auto", "always", "never"] = "auto"
    revision: str | None = None
    dtype: str = "auto"
    device: str | None = None
    device_map: str | None = None
    max_memory: Mapping[str | int, str | int] | None = None
    offload_folder: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    tau: float = TAU
    sink_position: int = 0
    massive_ratio: float = MASSIVE_RATIO
    variants: bool = False
    keep_text: bool = False
    seed: int = 0
    engine: Literal["local"] = "local"
    batch_tokens: int | None = None
    batch_size: int | None = None
    shard_rows: int = 64
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("limit", "max_length", "batch_tokens", "batch_size", "shard_rows"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and 1 <= value <= sys.maxsize):
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} must be at least 1 and at most {sys.maxsize}; got {value!r}.")
        if self.engine not in ENGINES:
            raise UsageError(f"--engine {self.engine} is unknown; expected {' or '.join(ENGINES)}.")
        if self.sink_position < 0:
            raise UsageError(f"--sink-position counts from 0; got {self.sink_position}.")
        if not 0 < self.tau <= 1:
            raise UsageError(f"--tau is a share of attention, above 0 and at most 1; got {self.tau:g}.")
        if not 1 < self.massive_ratio < math.inf:
            raise UsageError(f"--massive-ratio is over the median row, above 1 and finite; got {self.massive_ratio:g}.")

    @property
    def loading(self) -> LoadOptions:
        """The part that says how a model is loaded."""
        return LoadOptions(
            revision=self.revision,
            dtype=self.dtype,
            device=self.device,
            device_map=self.device_map,
            max_memory=self.max_memory,
            offload_folder=self.offload_folder,
            allow_pickle=self.allow_pickle,
            trust_remote_code=self.trust_remote_code,
        )
