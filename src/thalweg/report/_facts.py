"""What a page says of how a run was made: its header in groups, and the commands that made, finish and extend it."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.comparison import Compared
from thalweg.experiments import settings_words
from thalweg.shown import amount, counted, listing
from thalweg.store import Coverage, DataFacts, Findings, ModelFacts, Run


@dataclass(frozen=True)
class Made:
    """How what a chapter shows was made, by one setting of an experiment.

    Attributes:
        prompts: of which model on which data, one line each.
        settings: what was asked.
        command: that made it; empty where it was called from Python.
    """

    prompts: tuple[str, ...]
    settings: str
    command: str


def made_of(findings: Findings) -> Made:
    """Say of which prompts, by which settings and by which command findings were made."""
    header = findings.header
    by_name = dict[str, list[Coverage]]()
    for pair in header.coverage:
        by_name.setdefault(f"{pair.model} on {pair.data}", []).append(pair)
    prompts = tuple(f"{name}: {_counts(pairs)}" for name, pairs in by_name.items())
    return Made(prompts, settings_words(findings) or _options(header.resolved), shlex.join(header.command))


def compared_by(found: Compared) -> Made:
    """Say of which prompts and by which command two were compared."""
    return Made((found.of_prompts,), f"{found.other.name} against {found.one.name}", found.command)


def _counts(pairs: Sequence[Coverage]) -> str:
    kept, read = (sum(getattr(pair, name) for pair in pairs) for name in ("prompts_kept", "rows_read"))
    several = f" at {counted(len(pairs), 'checkpoint')}" if len(pairs) > 1 else ""
    return f"{counted(kept, 'prompt')} of {counted(read, 'row')}{several}"


def _options(resolved: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in resolved.items() if value not in (None, False))


def run_facts(run: Run) -> dict[str, dict[str, str]]:
    """Everything the header says, in groups; checkpoints of one model together."""
    header, session = run.header, run.session
    models, covered = dict[str, list[ModelFacts]](), dict[str, list[Coverage]]()
    for model in header.models:
        models.setdefault(f"Model {model.name}", []).append(model)
    for pair in run.coverage:
        covered.setdefault(f"{pair.model} on {pair.data}", []).append(pair)
    return {
        "Run": _run(run),
        **{title: _models(checkpoints) for title, checkpoints in models.items()},
        **{f"Data {data.name}": _data(data) for data in header.data},
        **{title: _coverage(pairs) for title, pairs in covered.items()},
        "Packages": dict(sorted(session.versions.items())),
        "Hardware": {name: str(value) for name, value in sorted(session.hardware.items())},
    }


def how_to_finish(run: Run) -> str | None:
    """The command that goes on with the run; None where a monitor writes it as long as its training goes on."""
    if "every" in run.session.resolved:
        return None
    command = shlex.join(run.session.command) or "thalweg survey ..."
    out = shlex.join(["--out", str(run.path)])
    return command if "--out" in command else f"{command} {out}"


def how_to_survey(run: Run) -> str:
    """The command that adds a survey to a run that experiments have made, but for its options."""
    names = dict.fromkeys(model.name for model in run.header.models)
    return shlex.join(["thalweg", "survey", *names, "--out", str(run.path)])


def _run(run: Run) -> dict[str, str]:
    header, session = run.header, run.session
    return {
        "status": run.status,
        "command": shlex.join(session.command) or "from Python",
        "options": _options(session.resolved) or "none",
        "longest prompt": counted(header.max_length, "token"),
        "tau": str(header.thresholds.tau),
        "massive ratio": str(header.thresholds.massive_ratio),
        "sink position": str(header.thresholds.sink_position),
        "seed": str(header.seed),
        "started": _moment(session.started),
        "last written": _moment(session.updated),
        "seconds": amount(session.seconds),
        "format": str(header.format),
    }


def _models(checkpoints: Sequence[ModelFacts]) -> dict[str, str]:
    """What they have in common is told once."""
    common = _model(checkpoints[0])
    if len(checkpoints) == 1:
        return common
    named = {counted(len(checkpoints), "checkpoint"): ", ".join(model.revision for model in checkpoints)}
    return named | {name: value for name, value in common.items() if name not in ("revision", "weights")}


def _model(model: ModelFacts) -> dict[str, str]:
    blocks = "all blocks" if model.softmax_blocks is None else f"blocks {listing(model.softmax_blocks)}"
    facts = {
        "revision": model.revision + (f" ({model.commit})" if model.commit else ""),
        "weights": model.weights,
        "size": f"{model.blocks} blocks, {model.heads} heads" + (f", width {model.width}" if model.width else ""),
        "parameters": None if model.parameters is None else f"{model.parameters:,}",
        "dtype": model.dtype,
        "quantization": model.quantization,
        "adapter": model.adapter,
        "attention read through": model.attention or "not known yet",
        "softmax attention in": blocks,
        "positions": model.positions or "not known yet",
        "BOS": f"{model.bos}: {model.bos_token or 'none added'}",
        "planted": model.planted or None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _data(data: DataFacts) -> dict[str, str]:
    given = "in memory, as an object" if data.given is None else data.given
    return {"given": given, "hash": data.hash, "template": data.template, "rows": data.sample or "in their order"}


def _coverage(pairs: Sequence[Coverage]) -> dict[str, str]:
    """Counts of all checkpoints of a model on a data set, added up."""
    skipped = sum((Counter(pair.skipped) for pair in pairs), Counter[str]())
    return {
        "rows read": f"{sum(pair.rows_read for pair in pairs):,}",
        "prompts kept": f"{sum(pair.prompts_kept for pair in pairs):,}",
        "skipped": "; ".join(f"{reason}: {number:,}" for reason, number in sorted(skipped.items())) or "none",
        "too short for a sink rate": f"{sum(pair.short_prompts for pair in pairs):,}",
        "begin with the BOS token twice": f"{sum(pair.bos_twice for pair in pairs):,}",
        "states with NaN or infinity": f"{sum(pair.nonfinite_states for pair in pairs):,}",
        "states that break a bound": f"{sum(pair.bound_violations for pair in pairs):,}",
    }


def _moment(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}" if moment else "not yet"
