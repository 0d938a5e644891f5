"""What was run: command, models, data, what was skipped and why."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.shown import amount, counted, listing
from thalweg.store import Coverage, ModelFacts, Run


@dataclass(frozen=True)
class Fact:
    """One line: what, and its value."""

    name: str
    value: str


@dataclass(frozen=True)
class FactGroup:
    """Lines under one heading."""

    title: str
    facts: tuple[Fact, ...]


def run_facts(run: Run) -> list[FactGroup]:
    """Give everything the header says, in groups."""
    header, session = run.header, run.session
    return [
        FactGroup("Run", _run(run)),
        *(FactGroup(f"Model {one.name}", _models(own)) for one, own in _by_name(header.models)),
        *(
            FactGroup(f"Data {data.name}", (Fact("hash", data.hash), Fact("template", data.template)))
            for data in header.data
        ),
        *(FactGroup(f"{pair.model} on {pair.data}", _coverage(pair)) for pair in _over_checkpoints(run.coverage)),
        FactGroup("Packages", tuple(Fact(name, version) for name, version in sorted(session.versions.items()))),
        FactGroup("Hardware", tuple(Fact(name, str(value)) for name, value in sorted(session.hardware.items()))),
    ]


def how_to_finish(run: Run) -> str | None:
    """Give the command that goes on with the run; None where a monitor writes it as long as its training goes on."""
    if "every" in run.session.resolved:
        return None
    command = shlex.join(run.session.command) or "thalweg survey ..."
    out = shlex.join(["--out", str(run.path)])
    return command if "--out" in command else f"{command} {out}"


def how_to_survey(run: Run) -> str:
    """Give the command that adds a survey to a run that experiments have made, but for its options."""
    names = dict.fromkeys(model.name for model in run.header.models)
    return shlex.join(["thalweg", "survey", *names, "--out", str(run.path)])


def _run(run: Run) -> tuple[Fact, ...]:
    header, session, thresholds = run.header, run.session, run.header.thresholds
    options = ", ".join(f"{name} {value}" for name, value in session.resolved.items() if value not in (None, False))
    return (
        Fact("status", run.status),
        Fact("command", shlex.join(session.command) or "from Python"),
        Fact("options", options or "none"),
        Fact("longest prompt", counted(header.max_length, "token")),
        Fact("tau", str(thresholds.tau)),
        Fact("massive ratio", str(thresholds.massive_ratio)),
        Fact("sink position", str(thresholds.sink_position)),
        Fact("seed", str(header.seed)),
        Fact("started", _moment(session.started)),
        Fact("last written", _moment(session.updated)),
        Fact("seconds", amount(session.seconds)),
        Fact("format", str(header.format)),
    )


def _by_name(models: Sequence[ModelFacts]) -> list[tuple[ModelFacts, list[ModelFacts]]]:
    """Checkpoints of one model together."""
    names = dict.fromkeys(model.name for model in models)
    groups = [[model for model in models if model.name == name] for name in names]
    return [(own[0], own) for own in groups]


def _models(checkpoints: Sequence[ModelFacts]) -> tuple[Fact, ...]:
    """What they have in common is told once."""
    first, *more = checkpoints
    if not more:
        return _model(first)
    named = ", ".join(one.revision for one in checkpoints)
    return (Fact(counted(len(checkpoints), "checkpoint"), named), *_model(first)[2:])


def _over_checkpoints(coverage: Sequence[Coverage]) -> list[Coverage]:
    """Counts of all checkpoints of a model on a data set, added up."""
    added = dict[tuple[str, str], Coverage]()
    for one in coverage:
        before = added.get((one.model, one.data))
        added[one.model, one.data] = one if before is None else _sum(before, one)
    return list(added.values())


def _sum(one: Coverage, other: Coverage) -> Coverage:
    numbers = ("rows_read", "prompts_kept", "short_prompts", "nonfinite_states", "bound_violations")
    reasons = sorted(one.skipped | other.skipped)
    skipped = {reason: one.skipped.get(reason, 0) + other.skipped.get(reason, 0) for reason in reasons}
    total = {name: getattr(one, name) + getattr(other, name) for name in numbers}
    return one.model_copy(update={**total, "skipped": skipped})


def _model(model: ModelFacts) -> tuple[Fact, ...]:
    softmax = "all blocks" if model.softmax_blocks is None else f"blocks {listing(model.softmax_blocks)}"
    return (
        Fact("revision", model.revision + (f" ({model.commit})" if model.commit else "")),
        Fact("weights", model.weights),
        Fact("size", f"{model.blocks} blocks, {model.heads} heads" + (f", width {model.width}" if model.width else "")),
        *((Fact("parameters", f"{model.parameters:,}"),) if model.parameters is not None else ()),
        Fact("dtype", model.dtype),
        Fact("attention read through", model.attention or "not known yet"),
        Fact("softmax attention in", softmax),
        Fact("positions", model.positions or "not known yet"),
        Fact("BOS", f"{model.bos}: {model.bos_token or 'none added'}"),
        *((Fact("planted", model.planted),) if model.planted else ()),
    )


def _coverage(pair: Coverage) -> tuple[Fact, ...]:
    skipped = "; ".join(f"{reason}: {number:,}" for reason, number in pair.skipped.items())
    return (
        Fact("rows read", f"{pair.rows_read:,}"),
        Fact("prompts kept", f"{pair.prompts_kept:,}"),
        Fact("skipped", skipped or "none"),
        Fact("too short for a sink rate", f"{pair.short_prompts:,}"),
        Fact("states with NaN or infinity", f"{pair.nonfinite_states:,}"),
        Fact("states that break a bound", f"{pair.bound_violations:,}"),
    )


def _moment(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}" if moment else "not yet"
