"""run.json: what everything in a run was measured of, on and with, and what makes two runs the same run."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from thalweg.errors import RunError
from thalweg.options import MASSIVE_RATIO, TAU
from thalweg.store._files import Count, Facts, parsed, read_document, write_document

HEADER = "run.json"
FORMAT = 2
MOST_BLOCKS, MOST_HEADS = 10_000, 100_000
"""What is drawn grows with them; no model comes near."""
UNNAMED = ("main", "local")
"""Revisions that nobody asked for by name."""
RESTORE = "Restore it, or measure again with another --out."


@dataclass(frozen=True)
class RunIdentity:
    """What changes a number: models, weights, data, templates, lengths, thresholds, seed.

    How many rows, in which batches, on which engine and device, changes none and is left out.

    Attributes:
        models: by ``name@revision``: weights, dtype, quantization, BOS policy and token.
        data: by name: hash and template.
        settings: by option name.
    """

    models: Mapping[str, Mapping[str, str | None]]
    data: Mapping[str, Mapping[str, str | None]]
    settings: Mapping[str, object]

    def differences(self, asked: "RunIdentity") -> list[str]:
        """Say in readable lines how what is asked for differs from this, the run's; none if they are one."""
        lines = _names_differ("models", self.models.keys(), asked.models.keys())
        lines += _names_differ("data", self.data.keys(), asked.data.keys())
        for mine, theirs in ((self.models, asked.models), (self.data, asked.data)):
            for name in sorted(mine.keys() & theirs.keys()):
                lines += _values_differ(*_comparable(mine[name], theirs[name]), of=f" of {name}")
        return lines + _values_differ(self.settings, asked.settings)


class NoiseFloor(Facts):
    """How far numbers of a half-precision run differ between a prompt alone and the same one in a batch.

    Attributes:
        prompts: how many were tried.
        entropy, norms, mixing: the largest difference of a state's entropy, of its norms, and of a block's mean mixing,
            relative; None where there is no such number.
        sink_score: the largest difference of a head's sink score.
    """

    prompts: Count
    entropy: float | None = None
    norms: float | None = None
    mixing: float | None = None
    sink_score: float | None = None


class ModelFacts(Facts):
    """One model of a run.

    Attributes:
        name: hub id, directory or file, as given.
        revision: as asked for.
        commit: what the revision resolved to, where there is one.
        weights: sha256 over the tensors, sorted, a tied one once; None as long as they stay on the hub.
        files: what the hub knows the weight files by; None for a directory or a file.
        configuration: what identifies the model's configuration and tokenizer.
        tokenizer: what identifies the tokenizer alone: checkpoints of one run have one.
        dtype: of the computation.
        adapter: of an adapter its kind and its base, such as "LORA on openai-community/gpt2".
        quantization: how the weights are stored, such as "GGUF Q4_1, dequantized"; None for plain numbers.
        attention: the path attention was read through.
        positions: rope, alibi, learned or none.
        blocks: number of blocks, L; there are L + 1 states.
        heads: query heads of a block.
        width: of the residual stream, d.
        vocabulary: how many tokens it chooses among, V.
        parameters: numbers in the weights, tied ones counted once.
        softmax_blocks: blocks that have softmax attention; None means all of them.
        windows: of each block how many tokens a row of its attention sees, itself included, None for all before it;
            None where no block has a sliding window, or it is not known.
        bos: the policy asked for: auto, always or never.
        bos_token: the token in front of every prompt, None where there is none.
        chat_template: hash of the template that makes prompts of conversations; None where rows are texts.
        noise: in half precision, how far its numbers repeat.
        planted: how its massive activation was built in; None for a model that came to it by itself, or never did.
        given: the class of a model that was in memory already; None where thalweg loaded it.
    """

    name: str
    revision: str = "main"
    commit: str | None = None
    weights: str | None
    files: str | None = None
    configuration: str = ""
    tokenizer: str | None = None
    dtype: str
    quantization: str | None = None
    adapter: str | None = None
    attention: str | None = None
    positions: str | None = None
    blocks: int = Field(ge=1, le=MOST_BLOCKS)
    heads: int = Field(ge=1, le=MOST_HEADS)
    width: Count | None = None
    vocabulary: Count | None = None
    parameters: Count | None = None
    softmax_blocks: tuple[int, ...] | None = None
    windows: tuple[Count | None, ...] | None = None
    bos: str = "auto"
    bos_token: str | None = None
    chat_template: str | None = None
    noise: NoiseFloor | None = None
    planted: str | None = None
    given: str | None = None

    @model_validator(mode="after")
    def _every_block_has_a_window(self) -> "ModelFacts":
        if self.windows is not None and len(self.windows) != self.blocks:
            raise ValueError(f"windows of {len(self.windows)} blocks are said of a model of {self.blocks}")
        return self

    @property
    def asked_revision(self) -> str | None:
        """The revision, where somebody asked for one by name."""
        return None if self.revision in UNNAMED else self.revision


class DataFacts(Facts):
    """One data set of a run.

    Attributes:
        name: what tables call it.
        hash: of its rows.
        template: how a row becomes a prompt.
        sample: how many rows were drawn at random, of how many, by which seed; None where rows are taken in order.
        given: how it was asked for, such as the path of a file, None for data in memory; it changes no
            number.
    """

    name: str
    hash: str
    template: str
    given: str | None = None
    sample: str | None = None


class Thresholds(Facts):
    """Where a score counts as a sink, a row as massive, and which position is the sink token."""

    tau: float = TAU
    massive_ratio: float = MASSIVE_RATIO
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
        if len(self.by_name) < len(self.models):
            raise ValueError("a model is named twice with the same revision")
        if len({data.name for data in self.data}) < len(self.data):
            raise ValueError("two data sets have the same name")
        return self

    @property
    def by_name(self) -> dict[tuple[str, str], ModelFacts]:
        """The models by name and revision."""
        return {(model.name, model.revision): model for model in self.models}

    @property
    def pairs(self) -> list[tuple[str, str, str]]:
        """Model, revision and data of all that a survey of the run measures."""
        return [(*name, data.name) for name in self.by_name for data in self.data]

    @property
    def identity(self) -> RunIdentity:
        """What changes a number: two runs with the same identity can be one."""
        of_model = {"weights", "files", "configuration", "dtype", "quantization", "bos", "bos_token", "chat_template"}
        of_data = {"hash", "template", "sample"}
        settings = self.model_dump(include={"max_length", "seed", "variants", "keep_text"})
        return RunIdentity(
            models={f"{each.name}@{each.revision}": each.model_dump(include=of_model) for each in self.models},
            data={each.name: each.model_dump(include=of_data) for each in self.data},
            settings={**settings, **self.thresholds.model_dump()},
        )


def _names_differ(what: str, mine: Set[str], theirs: Set[str]) -> list[str]:
    if mine == theirs:
        return []
    return [f"{what}: run has {', '.join(sorted(mine))}, asked for {', '.join(sorted(theirs))}"]


def _comparable(mine: Mapping[str, object], theirs: Mapping[str, object]) -> list[dict[str, object]]:
    """What the hub knows files by tells two models apart only as long as the tensors of one are unknown."""
    moot = "files" if mine.get("weights") and theirs.get("weights") else "weights"
    return [{name: value for name, value in facts.items() if name != moot} for facts in (mine, theirs)]


def _values_differ(mine: Mapping[str, object], theirs: Mapping[str, object], of: str = "") -> list[str]:
    return [
        f"{name}{of}: run has {_say(mine.get(name))}, asked for {_say(theirs.get(name))}"
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name) != theirs.get(name)
    ]


def _say(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def write_header(run: Path, header: RunHeader) -> None:
    """Write run.json whole."""
    write_document(run / HEADER, header)


def read_header(run: Path) -> RunHeader:
    """Read run.json; RunError where it is not there, not JSON, of another format, or not what was written."""
    path = run / HEADER
    if not path.is_file():
        reason = "it has no run.json" if run.is_dir() else "there is no such directory"
        raise RunError(f"{run} is no thalweg run: {reason}. Pass the directory that `thalweg survey --out` wrote.")
    version = parsed(path, todo=RESTORE).get("format")
    if isinstance(version, int) and version > FORMAT:
        raise RunError(
            f"{run} was written by a newer thalweg: format {version}, this one reads format {FORMAT}. Upgrade thalweg."
        )
    if isinstance(version, int) and version < FORMAT:
        raise RunError(
            f"{run} was written by a development version of thalweg (format {version}): measure it again, with another "
            "--out."
        )
    return read_document(path, RunHeader, todo=RESTORE)
