"""The options as keywords, for type checkers: written from them by docs/generate.py, run `make docs`."""

from collections.abc import Mapping
from typing import Any, Literal, TypedDict


class LoadKeywords(TypedDict, total=False):
    """Keywords of ``LoadOptions``."""

    revision: str | None
    dtype: str
    device: str | None
    device_map: str | None
    max_memory: Mapping[str | int, str | int] | None
    offload_folder: str | None
    allow_pickle: bool
    trust_remote_code: bool


class PassKeywords(LoadKeywords, total=False):
    """Keywords of ``PassOptions``."""

    tokenizer: Any
    bos: Literal["auto", "always", "never"]
    batch_tokens: int | None
    batch_size: int | None
    shard_rows: int
    progress: bool


class RowKeywords(PassKeywords, total=False):
    """Keywords of ``RowOptions``."""

    text_field: str | None
    limit: int | None


class ThresholdKeywords(RowKeywords, total=False):
    """Keywords of ``ThresholdOptions``."""

    whole_file: bool
    chat: bool
    tau: float
    sink_position: int | None
    massive_ratio: float


class TextKeywords(PassKeywords, total=False):
    """Keywords of ``TextOptions``."""

    max_length: int


class ExampleKeywords(TextKeywords, RowKeywords, total=False):
    """Keywords of ``ExampleOptions``."""


class PromptKeywords(ExampleKeywords, ThresholdKeywords, total=False):
    """Keywords of ``PromptOptions``."""

    sample: int | None
    seed: int


class SurveyKeywords(PromptKeywords, total=False):
    """Keywords of ``SurveyOptions``."""

    variants: bool
    keep_text: bool
    engine: Literal["local"]


class RecipeKeywords(TypedDict, total=False):
    """Keywords of ``Recipe``."""

    classifier: Literal["linear", "logistic"]
    learning_rate: float
    epochs: int
    batch: int
    seed: int
    standardize: bool
