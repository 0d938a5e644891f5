"""What an ablation says: of every condition the verdict on each segment, who took over, and what it cost."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.shown import ARROW, amount, change, listing, percent, span_of, spans

INTACT = "intact"
CONTROLS = {
    "nothing": "nothing removed",
    "other position": "other position",
    "other blocks": "other blocks at {}'s row",
    "rescaled": "{}'s row rescaled",
    "emptied": "{}'s row emptied",
}
PHENOMENA = {"compression": ("state", "C "), "sinks": ("block", "")}
"""What each is measured at, and what stands before its number."""
UNTOLD, NOTHING = "cannot be told", "nothing to remove"
MOST_TOKENS = 2


@dataclass(frozen=True)
class Condition:
    """What is done to the model: its name in the tables, what a person calls it, and one of ``ROLES``.

    "ablated" is all blocks together. ``row_of`` is the segment whose row alone is changed. The reason says why it is
    not run.
    """

    name: str
    series: str
    role: str
    seed: int | None
    row_of: str | None
    blocks: str
    reason: str | None

    @property
    def strong(self) -> bool:
        """Whether it is part of the comparison that it is all about."""
        return self.role in (INTACT, "ablated")

    @property
    def kind(self) -> str:
        """Of a control."""
        return self.name.removesuffix(f" {self.row_of}")

    @property
    def drawn(self) -> str:
        """The same with what was drawn."""
        blocks = f" ({self.blocks})" if self.kind == "other blocks" else ""
        return f"{self.series}{blocks}{'' if self.seed is None else f', draw {self.seed}'}"

    def of(self, table: pl.DataFrame) -> pl.DataFrame:
        """Its rows of a table."""
        return table.filter(pl.col("seed").eq_missing(pl.lit(self.seed, pl.Int32)), condition=self.name)


@dataclass(frozen=True, eq=False)
class Judged:
    """A condition, the verdicts on it by segment, where rows are massive under it, and the change of the loss."""

    condition: Condition
    verdicts: Mapping[str | None, Mapping[str, dict[str, Any]]]
    rows: dict[str, Any]
    loss: dict[str, Any]


def conditions_of(table: pl.DataFrame) -> list[Condition]:
    """What was planned; of what is ablated, the last is all blocks together."""
    rows = table.to_dicts()
    ablated = [row for row in rows if row["control"] is None and row["blocks"]]
    found = list[Condition]()
    for row in rows:
        name, blocks, row_of = str(row["condition"]), row["blocks"], row["row_of"]
        if row in ablated:
            what = "MLP of block" if blocks.isdigit() else "MLPs of blocks"
            series = f"without the {what} {blocks.replace(',', ', ')}"
            role = "ablated" if row is ablated[-1] else "alone"
        else:
            series = CONTROLS.get(name.removesuffix(f" {row_of}"), name).format(row_of)
            role = row["control"] or ("alone" if row["reason"] else INTACT)
        found.append(Condition(name, series, role, row["seed"], row_of, blocks, row["reason"]))
    return found


def judged_of(condition: Condition, tables: Mapping[str, pl.DataFrame]) -> Judged:
    """Pick a condition's rows out of the tables ``verdicts``, ``replacements`` and ``effects``."""
    verdicts = dict[str | None, dict[str, dict[str, Any]]]()
    for row in condition.of(tables["verdicts"]).iter_rows(named=True):
        verdicts.setdefault(row["segment"], {})[row["phenomenon"]] = row
    rows = next(condition.of(tables["replacements"]).iter_rows(named=True), {})
    loss = condition.of(tables["effects"]).filter(site="prompt", metric="loss").row(0, named=True)
    return Judged(condition, verdicts, rows, loss)


def ablated_sentence(judged: Judged, segments: Mapping[str, dict[str, Any]]) -> str:
    """Say what an ablation did to every segment; ``segments`` are rows of the table by name."""
    series = judged.condition.series
    parts = [_on(name, rows, judged, segments) for name, rows in judged.verdicts.items()]
    loss = change(judged.loss["difference"], judged.loss["low"], judged.loss["high"])
    taken = [_taken(judged.rows)] if judged.rows else []
    return "; ".join(
        [
            f"{series[0].upper()}{series[1:]}, {parts[0]}",
            *parts[1:],
            *taken,
            f"the next-token loss changes by {loss} nats",
        ]
    )


def control_sentences(every: Sequence[Judged]) -> Iterator[str]:
    """How many controls did what they must, which did not, and in which of them another row took over."""
    for role, wanted, does in (("negative", "unchanged", "leave"), ("positive", "removed", "remove")):
        asked = {judged: _asked(judged) for judged in every if judged.condition.role == role}
        asked = {judged: rows for judged, rows in asked.items() if rows}
        odd = {judged: [row for row in rows if row["verdict"] != wanted] for judged, rows in asked.items()}
        odd = {judged: rows for judged, rows in odd.items() if rows}
        if not asked:
            continue
        yield "; ".join(
            [
                f"{role.capitalize()} controls that {does} what they must: {len(asked) - len(odd)} of {len(asked)}",
                *_findings(odd if role == "positive" else {}),
            ]
        )
        for judged, rows in odd.items():
            name = judged.condition.drawn
            who = f"; {_taken(judged.rows)}" if role == "positive" else ""
            yield f"{name[0].upper()}{name[1:]}: {_phrases(rows)}{who}"


def remark(condition: Condition) -> str:
    """Say why something was not run."""
    if condition.role in ("negative", "positive"):
        return f"The control {condition.series!r} is not run: {condition.reason}"
    return f"The {condition.name} are not removed: {condition.reason}"


def phrase(row: dict[str, Any]) -> str:
    """Write a verdict: ``sinks reduced (.86 -> .04: gone from block 13 on, block 12 still .55 of .78)``."""
    what, (place, mark) = row["phenomenon"], PHENOMENA[row["phenomenon"]]
    if row["verdict"] == UNTOLD:
        return f"{what} {UNTOLD}: {row['reason']}"
    if row["verdict"] == NOTHING:
        return f"{what} {NOTHING} ({mark}{share(row['intact'])})"
    told = f"{mark}{share(row['intact'])} {ARROW} {share(row['ablated'])}"
    gone, first = row["gone_from"], row["first"]
    word = "moved" if row["moved"] else "gone"
    if gone is not None and gone > first:
        before = (
            f"{span_of(first, gone - 1, place)} still {share(row['before_ablated'])} of {share(row['before_intact'])}"
        )
        told += f": {word} from {place} {gone} on, {before}"
    if what == "sinks":
        told += f"; anywhere {share(row['anywhere_intact'])} {ARROW} {share(row['anywhere_ablated'])}"
        told += f": {word}" if gone == first else ""
    return f"{what} {row['verdict']} ({told})"


def share(value: float | None) -> str:
    """Write a share to two digits, as the paper does: ``.91``."""
    return "-" if value is None or math.isnan(value) else f"{value:.2f}".removeprefix("0")


def _asked(judged: Judged) -> list[dict[str, Any]]:
    """The verdicts that a control stands or falls by: what it can reach, and where there is something to remove."""
    wanted = ("compression",) if judged.condition.kind == "rescaled" else PHENOMENA
    rows = (rows[name] for rows in judged.verdicts.values() for name in wanted)
    return [row for row in rows if row["first"] is not None and row["verdict"] != NOTHING]


def _phrases(rows: Sequence[dict[str, Any]]) -> str:
    """What is said of each segment, which is named where there are several."""
    by_segment = dict[str, list[str]]()
    for row in rows:
        by_segment.setdefault(row["segment"], []).append(phrase(row))
    return ", ".join(
        f"{name}: {', '.join(said)}" if len(by_segment) > 1 else ", ".join(said) for name, said in by_segment.items()
    )


def _findings(odd: Iterable[Judged]) -> Iterator[str]:
    """Where another row has taken over, the control has not failed."""
    taken = sum(bool(judged.rows["other_states"]) for judged in odd)
    if taken:
        yield f"in {taken} another row takes over, which is a finding about the model"


def _on(
    name: str | None, rows: Mapping[str, dict[str, Any]], judged: Judged, segments: Mapping[str, dict[str, Any]]
) -> str:
    """The verdicts on one segment, and whether its row is still massive."""
    compression, sinks = rows["compression"], rows["sinks"]
    if name is None:
        return f"{UNTOLD}: {compression['reason']}"
    if compression["first"] is None:
        return f"{name} {UNTOLD}: {compression['reason']}"
    reached = range(compression["first"], compression["last"] + 1)
    still = [state for state in judged.rows.get("still_states", []) if state in reached]
    left = f", {_own(segments[name])} is still massive at {_states(still)}" if still else ""
    where = span_of(reached[0], reached[-1])
    return f"{name} ({where}): {phrase(compression)}, {phrase(sinks)}{left}"


def _own(segment: dict[str, Any]) -> str:
    return f"position {segment['position']}" if segment["position_share"] == 1 else "its row"


def _taken(rows: dict[str, Any]) -> str:
    """Which row has become massive in the place of a segment's."""
    if not rows["other_states"]:
        some = f"in {percent(rows['other_prompts'])} of the prompts, and in fewer than half at any state"
        return f"another row becomes massive {some}" if rows["other_prompts"] > 0 else "no other row becomes massive"
    where = f"position {rows['other_position']}"
    where += "" if rows["other_share"] == 1 else " most often"
    tokens = [repr(token) for token in rows["other_tokens"]]
    named = listing(tokens if len(tokens) <= MOST_TOKENS else [*tokens[:MOST_TOKENS], "others"])
    texts = f", {named}" if tokens else ""
    about = f"(ratio {amount(rows['other_ratio'])}, {where}{texts})"
    return f"another row becomes massive at {_states(rows['other_states'])} {about}"


def _states(states: Sequence[int]) -> str:
    return f"state{'s' if len(states) > 1 else ''} {spans(states)}"
