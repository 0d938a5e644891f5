"""run.json: what everything in a run was measured of, on and with."""

from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator

from thalweg.store._facts import Count, Facts
from thalweg.store._identity import RunIdentity

FORMAT = 2


class ModelFacts(Facts):
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


class DataFacts(Facts):
    """One data set of a run: its name, what its rows hash to, and how a row becomes a prompt."""

    name: str
    hash: str
    template: str


class Thresholds(Facts):
    """Where a score counts as a sink, a row as massive, and which position is the sink token."""

    tau: float = 0.3
    massive_ratio: float = 10.0
    sink_position: Count = 0


class RunHeader(Facts):
    """What all findings of a run share.

    Attributes:
        format: version of the run directory.
        models: one entry per model and revision.
        data: one entry per data set; none while there are only experiments that have data of their own.
        max_length: longest prompt in tokens.
        thresholds: tau, massive ratio, sink position.
        seed: of everything random.
        variants: ``layers`` carries the entropies of other authors.
        keep_text: ``prompts`` carries the text.
        started: when the run was first created.
    """

    format: Literal[2] = FORMAT
    models: tuple[ModelFacts, ...] = Field(min_length=1)
    data: tuple[DataFacts, ...] = ()
    max_length: int = Field(default=1024, ge=1)
    thresholds: Thresholds = Thresholds()
    seed: int = 0
    variants: bool = False
    keep_text: bool = False
    started: datetime | None = None

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


def _model_identity(model: ModelFacts) -> dict[str, str | None]:
    return {name: getattr(model, name) for name in ("weights", "configuration", "dtype", "bos", "bos_token")}
