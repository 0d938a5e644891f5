"""What every state predicts: the paper's Figures 8 (left) and 28, with agreement and KL beside."""

import math
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.experiments._declared import Experiment, Outcome, sections_of
from thalweg.experiments._declared import outcome as read
from thalweg.experiments._lens.tables import trained_lens
from thalweg.experiments._views import (
    Pair,
    file_names,
    heading,
    held,
    model_file_name,
    pairs_with_own,
    shaded,
    surveyed_span,
)
from thalweg.shown import Chapter, Panel, Rule, Section, Table, line_of, number, ranges
from thalweg.store import Findings, Run, open_run

COLUMNS = {
    "perplexity": "perplexity",
    "loss": "loss",
    "output_entropy": "output entropy",
    "agreement": "agreement",
    "kl": "KL to last",
}
"""What a table shows, and what it calls it."""

CEILING = 3
"""Times the nats of a uniform guess, where the axis of perplexity ends."""

NOTE = (
    "Every state through final norm and unembedding, as if the model stopped there. Perplexity is exp(sum of losses / "
    "number of scored tokens). The band is the 95% interval over prompts or blocks. Early states may cost any number "
    f"of nats: the axis of perplexity ends at {CEILING} times those of a uniform guess, and what lies above is marked "
    "there."
)

AXES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("perplexity", "Perplexity", "[no unit]", {"log_y": True}),
    ("output_entropy", "Entropy of the output", "[nats]", {}),
    ("agreement", "Top-1 agreement with the last state", "[share of tokens]", {"share": True}),
    ("kl", "KL to the last state", "[nats]", {}),
)
"""Of each panel what it shows, its title, its axis, and how it is drawn."""


@dataclass(frozen=True)
class _Lens:
    """One lens's averages over the tokens of one data set."""

    findings: Findings
    rows: pl.DataFrame

    @property
    def name(self) -> str:
        """Which lens it is, and what of: ``logit lens, blocks of 512 tokens``."""
        asked = self.findings.header.settings
        norm = "" if asked["final_norm"] else " without final norm"
        block = asked["block_length"]
        return f"{asked['lens']} lens{norm}, {'row by row' if block is None else f'blocks of {block} tokens'}"

    def by_state(self, metric: str) -> dict[int, float]:
        return dict(self.rows.filter(metric=metric).sort("state").select("state", "value").iter_rows())


def chapters(run: Run) -> Iterator[Chapter]:
    """Every model and data set that was read through a lens, then every lens that was trained."""
    lenses, trainings = run.experiments("lens"), run.experiments("tuned_lens")
    sections = list[Section]()
    known = pairs_with_own(run, [*lenses, *trainings])
    data = file_names(pair.data for pair in known)
    for pair in known:
        name = f"lens_{model_file_name(run, pair.model, pair.revision)}"
        name += f"_{data[pair.data]}" if len(data) > 1 else ""
        sections += [*_read(run, pair, held(lenses, "curves", pair.rows), name), *_trained(run, pair, trainings)]
    yield Chapter("Lens", "lens", sections, NOTE)


def _read(run: Run, pair: Pair, every: Sequence[Findings], name: str) -> Iterator[Section]:
    """All lenses in one set of panels, then of each what it says: the terminal shows those of its own lens alone."""
    lenses = [_Lens(findings, findings.table("curves").filter(pair.rows).collect()) for findings in every]
    if not lenses:
        return
    vocabulary = run.header.by_name[pair.model, pair.revision].vocabulary
    title, panels = heading(run, pair), _panels(lenses, surveyed_span(run, pair.model, pair.revision), vocabulary)
    yield Section(title, name, panels=panels, columns=2, size=(4.2, 2.8))
    for lens in lenses:
        said, key = _sentence(lens, vocabulary), lens.findings.header.key
        yield Section(f"{title}: {lens.name}", sentences=[said], tables=[_table(run, lens, pair)], key=key)


def _panels(lenses: Sequence[_Lens], span: tuple[int, int] | None, vocabulary: int | None) -> list[Panel]:
    times = Counter(lens.name for lens in lenses)
    names = [lens.name if times[lens.name] == 1 else f"{lens.name} ({lens.findings.header.key})" for lens in lenses]
    # an average and its 95% interval, the average itself where there is none
    ends = {end: pl.col(column).fill_nan(pl.col("value")) for end, column in (("lower", "low"), ("upper", "high"))}
    guess: dict[str, Any] = {}
    if vocabulary is not None:
        guess = {"rules": (Rule("uniform guess", vocabulary),), "ceiling": float(vocabulary) ** CEILING}
    panels = list[Panel]()
    for metric, title, unit, drawn in AXES:
        rows = [lens.rows.filter(metric=metric).sort("state") for lens in lenses]
        curves = [each.select(at="state", mean="value", **ends) for each in rows]
        lines = [line_of(place, name, curves[place]) for place, name in enumerate(names)]
        more = guess if metric == "perplexity" else {}
        panels.append(Panel(title, "state", unit, tuple(lines), spans=shaded(span), **drawn, **more))
    return panels


def _table(run: Run, lens: _Lens, pair: Pair) -> Table:
    columns = [lens.by_state(metric) for metric in COLUMNS]
    states = lens.rows["state"].unique().sort().to_list()
    what = "prompts" if lens.findings.header.settings["block_length"] is None else "blocks"
    scored, read = (max(lens.rows[name]) for name in ("scored", "n"))
    return Table(
        f"{heading(run, pair)}: {lens.name}; {scored:,} tokens of {read:,} {what}",
        ("state", *COLUMNS.values()),
        [[state, *(number(column[state]) for column in columns)] for state in states],
        folded="Averages by state over the scored tokens, every token counting once",
    )


def _sentence(lens: _Lens, vocabulary: int | None) -> str:
    """What the states predict: averages over tokens, each token counting once."""
    losses, perplexity = lens.by_state("loss"), lens.by_state("perplexity")
    last = max(losses)
    said = f"Perplexity is {number(perplexity[last])} at state {last}, averaged over tokens"
    said += _agreed([state for state, share in lens.by_state("agreement").items() if share >= 0.5], last)
    return said + ("" if vocabulary is None else _fallen(losses, last, math.log(vocabulary), vocabulary))


def _fallen(losses: Mapping[int, float], last: int, guess: float, vocabulary: int) -> str:
    """How the loss falls from what a uniform guess costs: state 0 may cost any number of nats, and is no beginning."""
    worse = [state for state, loss in losses.items() if not loss < guess]
    uniform = f"a uniform guess, ln {vocabulary:,} = {guess:.1f} nats"
    if last in worse:
        return f"; the last state costs more than {uniform}"
    near = last
    while near and guess - losses[near - 1] >= 0.9 * (guess - losses[last]):
        near -= 1
    said = f"; nine tenths of the fall in loss from {uniform}, are reached from state {near} on"
    what = "state {} costs" if len(worse) == 1 else "states {} cost"
    return said + (f"; {what.format(ranges(worse))} more than that" if worse else "")


def _agreed(states: Sequence[int], last: int) -> str:
    """From which state before the last one on it says what the last one says, at least half of the time."""
    if not states or states[0] == last:
        return ""
    stays = len(states) == last + 1 - states[0]
    there = f"from state {states[0]} on" if stays else f"at state {states[0]} for the first time"
    return f"; {there} the most probable token is the last state's at least half of the time"


def _trained(run: Run, pair: Pair, every: Sequence[Findings]) -> Iterator[Section]:
    """How far every training of a tuned lens came."""
    for training in held(every, "training", pair.rows):
        losses, place = training.table("training").filter(pair.rows).collect(), trained_lens(training)
        steps = sorted({0, max(losses["step"])})
        ends = losses.filter(pl.col("step").is_in(steps)).sort("state", "step").group_by("state", maintain_order=True)
        use = f"lens: {place}    use it: thalweg {shlex.join(['lens', pair.model, '--tuned', str(place)])}"
        table = Table(
            "KL to the last state, nats",
            ("state", *(f"KL at step {step}" for step in steps)),
            [[state, *rows["kl"]] for (state,), rows in ends],
            note=use if training.header.status == "finished" else "",
            folded="KL to the last state before the first step and at the last one",
        )
        yield Section(f"{heading(run, pair)}: training of a tuned lens", tables=[table], key=training.header.key)


def outcome(experiment: Experiment, findings: Findings, asked: Mapping[str, Any]) -> Outcome:
    """Tell what the states predict; of a training where the lens is, and how far it came."""
    if findings.header.experiment == experiment.name:
        return read(experiment, findings, asked)
    losses, run = findings.table("training").collect(), open_run(findings.run)
    ends = losses.filter((pl.col("step") == 0) | (pl.col("step") == pl.col("step").max()))
    told = {"lens": str(trained_lens(findings)), "settings": findings.header.settings, "training": ends.to_dicts()}
    return Outcome(told, run, sections_of(experiment, run, findings.header.key))
