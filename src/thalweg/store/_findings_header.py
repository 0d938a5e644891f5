"""What an experiment of a run was asked, and how far it came: ``RUN/<experiment>/<key>/header.json``."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator

from thalweg.errors import RunError
from thalweg.store._files import AGAIN, Count, Facts, FileFacts, read_document, write_document
from thalweg.store._header import DataFacts
from thalweg.store._tables import Tables, dtype_of

HEADER = "header.json"
SHOWN = 10
TableName = Annotated[str, Field(pattern=r"\A\w[\w-]*\z")]
"""A part of file names."""
Kind = Literal["parts", "whole", "plan"]
Pair = tuple[str, str, str]
"""Model, revision and data."""
Status = Literal["started", "finished", "interrupted", "failed"]


class Session(Facts):
    """How a command ran: it changes no number.

    Attributes:
        command: as passed.
        resolved: the command's options after defaults.
        versions: of the packages in use.
        hardware: what it ran on.
    """

    command: tuple[str, ...] = ()
    resolved: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    versions: dict[str, str] = Field(default_factory=dict[str, str])
    hardware: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])


class PartCounts(Facts):
    """What a shard's tables cannot say about themselves.

    Attributes:
        skipped: rows that gave no prompt, counted by reason.
        nonfinite_states: states with NaN or Inf.
        short_prompts: prompts so short that a uniform head passes tau.
        bound_violations: states that break the theory's inequalities even in float64.
        bos_twice: prompts that begin with the BOS token twice.
        left_out: rows that a random sample leaves out, between those that it drew.
    """

    skipped: dict[str, Count] = Field(default_factory=dict[str, Count])
    nonfinite_states: Count = 0
    short_prompts: Count = 0
    bound_violations: Count = 0
    bos_twice: Count = 0
    left_out: Count = 0


class Coverage(PartCounts):
    """How far one model came on one data set, added up over the finished parts.

    Attributes:
        model: the model's name.
        revision: its revision.
        data: the data set's name.
        rows_read: rows of the data that were read; those to be tried again are among them and among ``skipped``.
        prompts_kept: prompts that were measured.
        waiting: rows that were not measured, by the reason, which can pass: the same command measures them.
    """

    model: str
    revision: str
    data: str
    rows_read: Count = 0
    prompts_kept: Count = 0
    waiting: dict[str, tuple[Count, ...]] = Field(default_factory=dict[str, tuple[int, ...]])

    @property
    def not_measured(self) -> str:
        """Which rows wait and why, in words; empty where none does."""
        if not self.waiting:
            return ""
        reasons = list[str]()
        for reason, rows in self.waiting.items():
            first, more = ", ".join(map(str, rows[:SHOWN])), f" and {len(rows) - SHOWN:,} more" * (len(rows) > SHOWN)
            reasons.append(f"row{'s' * (len(rows) > 1)} {first}{more} ({reason})")
        return (
            f"{self.model} on {self.data}: not measured: {'; '.join(reasons)}. Run the same command again: it measures "
            "them and nothing else."
        )

    @property
    def pair(self) -> Pair:
        """Model, revision and data."""
        return self.model, self.revision, self.data


class TableFacts(Facts):
    """One table of the findings and its columns' types by name, so that they can be read without the experiment.

    It is written in parts; whole, from the parts; or, a plan, before them.
    """

    kind: Kind
    columns: dict[str, str]

    @field_validator("columns")
    @classmethod
    def _types_are_known(cls, columns: dict[str, str]) -> dict[str, str]:
        for name in columns.values():
            dtype_of(name)
        return columns

    @property
    def types(self) -> dict[str, Any]:
        """Names with their polars types, in order."""
        return {name: dtype_of(dtype) for name, dtype in self.columns.items()}


DEFINITIONS: dict[str, int] = dict.fromkeys(("survey", "attribution", "ablation", "clip", "checkpoints"), 2)
"""By which definitions each experiment is summed up, 1 where it is not named.

The first knew compress as the first to the last massive state, and a valley as half of state 1's entropy.
"""


class FindingsHeader(Session):
    """One experiment of a run; the same run may hold the same experiment with other settings.

    What its session says is that of the session that measured last.

    Attributes:
        experiment: its name.
        settings: what changes a number of it, beside what run.json says.
        status: started, finished, interrupted or failed.
        tables: its tables.
        data: data sets that it has of its own, whatever the run's survey measures.
        coverage: how far it came with each model and data set.
        definitions: by which what is summed up was; of another number it has to be summed up again.
        wholes: checksums of the tables that are not in parts; a table that is being replaced has two.
        seconds: spent so far, over all resumptions.
        started: when it was begun.
        updated: when this file was last written.
    """

    experiment: str
    settings: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    status: Status = "started"
    tables: dict[TableName, TableFacts] = Field(default_factory=dict[str, TableFacts])
    data: tuple[DataFacts, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    definitions: Count = 1
    wholes: dict[str, tuple[FileFacts, ...]] = Field(default_factory=dict[str, tuple[FileFacts, ...]])
    seconds: float = Field(default=0.0, ge=0.0)
    started: datetime | None = None
    updated: datetime | None = None

    @property
    def today(self) -> int:
        """The number of today's definitions."""
        return DEFINITIONS.get(self.experiment, 1)

    @property
    def key(self) -> str:
        """Names the experiment's directory: different for different settings."""
        return settings_key(self.settings)

    def named(self, kind: Kind) -> tuple[str, ...]:
        """The tables of one kind, in the order in which they were declared."""
        return tuple(name for name, table in self.tables.items() if table.kind == kind)

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


def settings_key(settings: Mapping[str, JsonValue]) -> str:
    """Ten hexadecimal digits that stand for the settings, whatever their order."""
    text = json.dumps(dict(settings), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def table_facts(tables: Tables) -> dict[str, TableFacts]:
    """What the header says of the tables."""
    kinds: dict[str, Kind] = {name: "plan" if name in tables.plans else "whole" for name in tables.wholes}
    return {
        name: TableFacts(
            kind=kinds.get(name, "parts"), columns={column.name: str(column.dtype) for column in table.columns}
        )
        for name, table in {**tables.parts, **tables.wholes}.items()
    }


def write_findings_header(directory: Path, header: FindingsHeader) -> FindingsHeader:
    """Write header.json whole and give the header as written, with the time in it."""
    header = header.model_copy(update={"updated": datetime.now(UTC)})
    write_document(directory / HEADER, header)
    return header


def read_findings_header(directory: Path) -> FindingsHeader:
    """Read header.json; RunError where it is missing, damaged, of other findings, or of a newer thalweg."""
    header = read_document(directory / HEADER, FindingsHeader)
    if (header.experiment, header.key) != (directory.parent.name, directory.name):
        of = f"{header.experiment[:80]}/{header.key}"
        raise RunError(f"{directory / HEADER} is damaged: it is that of {of}. {AGAIN}")
    return header
