"""run.json: what was asked, of what, on what, and how far it came."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from thalweg.store._identity import RunIdentity

FORMAT = 1
Status = Literal["started", "finished", "interrupted", "failed"]
Count = Annotated[int, Field(ge=0)]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelFacts(_Facts):
    """One model of a run.

    Attributes:
        name: hub id or directory, as given.
        revision: as asked for.
        commit: what the revision resolved to, where there is one.
        weights: what identifies the weights: hub blob ids, or a hash of the files.
        configuration: what identifies the model's configuration and tokenizer.
        dtype: of the computation.
        attention: the path attention was read through.
        positions: rope, alibi, learned or none.
        blocks: number of blocks, L; there are L + 1 states.
        heads: query heads of a block.
        width: of the residual stream, d.
        parameters: numbers in the weights, tied ones counted once.
        softmax_blocks: blocks that have softmax attention; None means all of them.
        bos: the policy asked for: auto, always or never.
        bos_token: the token in front of every prompt, None where there is none.
        planted: how its massive activation was built in; None for a model that came to it by itself, or never did.
    """

    name: str
    revision: str = "main"
    commit: str | None = None
    weights: str
    configuration: str = ""
    dtype: str
    attention: str | None = None
    positions: str | None = None
    blocks: Count
    heads: Count
    width: Count | None = None
    parameters: Count | None = None
    softmax_blocks: tuple[int, ...] | None = None
    bos: str = "auto"
    bos_token: str | None = None
    planted: str | None = None


class DataFacts(_Facts):
    """One data set of a run: its name, what its rows hash to, and how a row becomes a prompt."""

    name: str
    hash: str
    template: str


class Thresholds(_Facts):
    """Where a score counts as a sink, a row as massive, and which position is the sink token."""

    tau: float = 0.3
    massive_ratio: float = 10.0
    sink_position: Count = 0


class PartCounts(_Facts):
    """What a shard's tables cannot say about themselves.

    Attributes:
        skipped: rows that gave no prompt, counted by reason.
        nonfinite_states: states with NaN or Inf.
        short_prompts: prompts so short that a uniform head passes tau.
    """

    skipped: dict[str, Count] = {}
    nonfinite_states: Count = 0
    short_prompts: Count = 0


class Coverage(PartCounts):
    """How far one model came on one data set, added up over the finished parts.

    Attributes:
        model: the model's name.
        revision: its revision.
        data: the data set's name.
        rows_read: rows of the data that are done.
        prompts_kept: prompts that were measured.
        bound_violations: states that break the theory's inequalities even in float64.
    """

    model: str
    revision: str
    data: str
    rows_read: Count = 0
    prompts_kept: Count = 0
    bound_violations: Count = 0


class RunHeader(_Facts):
    """Everything about a run that is not a measurement.

    Attributes:
        format: version of the run directory.
        status: started, finished, interrupted or failed.
        command: as passed.
        resolved: the command's options after defaults.
        models: one entry per model and revision.
        data: one entry per data set; none while there are only experiments that have data of their own.
        max_length: longest prompt in tokens.
        thresholds: tau, massive ratio, sink position.
        seed: of everything random.
        variants: ``layers`` carries the entropies of other authors.
        keep_text: ``prompts`` carries the text.
        coverage: how far each model came on each data set; kept by the writer.
        versions: of the packages in use.
        hardware: what it ran on.
        seconds: spent so far, over all resumptions.
        started: when the run was first created.
        updated: when this file was last written.
    """

    format: Literal[1] = FORMAT
    status: Status = "started"
    command: tuple[str, ...] = ()
    resolved: dict[str, JsonValue] = {}
    models: tuple[ModelFacts, ...] = Field(min_length=1)
    data: tuple[DataFacts, ...] = ()
    max_length: int = Field(default=1024, ge=1)
    thresholds: Thresholds = Thresholds()
    seed: int = 0
    variants: bool = False
    keep_text: bool = False
    coverage: tuple[Coverage, ...] = ()
    versions: dict[str, str] = {}
    hardware: dict[str, JsonValue] = {}
    seconds: float = Field(default=0.0, ge=0.0)
    started: datetime | None = None
    updated: datetime | None = None

    @model_validator(mode="after")
    def _names_are_unique(self) -> "RunHeader":
        models = [(model.name, model.revision) for model in self.models]
        if len(set(models)) < len(models):
            raise ValueError("a model is named twice with the same revision")
        names = [data.name for data in self.data]
        if len(set(names)) < len(names):
            raise ValueError("two data sets have the same name")
        return self

    @property
    def identity(self) -> RunIdentity:
        """What changes a number: two runs with the same identity can be one."""
        return RunIdentity(
            models={f"{model.name}@{model.revision}": _model_identity(model) for model in self.models},
            data={data.name: {"hash": data.hash, "template": data.template} for data in self.data},
            settings={
                "max_length": self.max_length,
                "tau": self.thresholds.tau,
                "massive_ratio": self.thresholds.massive_ratio,
                "sink_position": self.thresholds.sink_position,
                "seed": self.seed,
                "variants": self.variants,
                "keep_text": self.keep_text,
            },
        )

    @property
    def bound_violations(self) -> int:
        """States that break the theory's inequalities, over all models and data sets."""
        return sum(pair.bound_violations for pair in self.coverage)

    @property
    def nonfinite_states(self) -> int:
        """States with NaN or Inf, over all models and data sets."""
        return sum(pair.nonfinite_states for pair in self.coverage)

    @property
    def short_prompts(self) -> int:
        """Prompts too short for a sink rate, over all models and data sets."""
        return sum(pair.short_prompts for pair in self.coverage)


def _model_identity(model: ModelFacts) -> dict[str, str | None]:
    return {name: getattr(model, name) for name in ("weights", "configuration", "dtype", "bos", "bos_token")}
