"""What a survey shows: answers on top, then depth, phases, the theorem, mixing, norms, heads, massive activations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from shlex import quote
from typing import Any

import polars as pl

from thalweg.experiments._declared import Experiment, Outcome, bos_remark, noise_sentence, sections_of, state_remarks
from thalweg.experiments._survey import answers
from thalweg.experiments._survey.phases import (
    coupling_answer,
    coupling_section,
    phases_answer,
    phases_section,
    row_answer,
    where_answer,
)
from thalweg.experiments._survey.planes import planes_section
from thalweg.experiments._survey.theorem import theorem_section
from thalweg.experiments._views import (
    THROUGH_DEPTH,
    Pair,
    along,
    compress_span,
    curves,
    ending,
    heading,
    kinds_of,
    label_of,
    latest_pairs,
    metric_panel,
    phases_row,
    shaded,
    share_of_depth,
    tracks,
)
from thalweg.shown import (
    GREY,
    PALETTE,
    Answer,
    Card,
    Chapter,
    Line,
    Panel,
    Rule,
    Section,
    Table,
    counted,
    line_of,
    listing,
    percent,
    spans,
    title,
    unit,
)
from thalweg.store import Run

BOUND_VIOLATED = 4
"""The exit code."""
DEPTH_COLUMNS = {
    "depth": None,
    "normalized entropy": ("state", "entropy_normalized"),
    "sink norm": ("state", "sink_norm"),
    "rest norm": ("state", "rest_norm"),
    "norm ratio": ("state", "norm_ratio"),
    "row ratio": ("state", "row_ratio"),
    "sink rate": ("block", "sink_rate"),
    "normalized mixing": ("block", "mixing_normalized"),
    "phase": None,
}
_MIXING: dict[str, str] = dict.fromkeys(("colsum_rate", "mixing", "mixing_normalized"), "block")


def cards(run: Run) -> Iterator[Card]:
    """Give the answers about every model on every data set; of a run without a survey, what it is about alone."""
    planted = {(model.name, model.revision): model.planted for model in run.header.models}
    for pair in latest_pairs(run):
        how = planted[pair.model, pair.revision]
        card = Card(label_of(run, pair), f"on {pair.data}", (), f"A test model: {how}." if how else "")
        yield _answered(run, pair, card) if run.survey else card


def chapters(run: Run) -> Iterator[Chapter]:
    """Give what a survey shows, of each model's checkpoints the last one; nothing of a run that holds no survey."""
    if run.survey is None:  # other experiments may have made it
        return
    every, shortest = latest_pairs(run), answers.shortest_prompt(run.header.thresholds.tau)
    yield Chapter(
        "Through depth",
        "depth",
        _by_data(run, every, _depth),
        "Mean over prompts; the band is one standard deviation. Sink rates leave out prompts of fewer than "
        f"{shortest} tokens.",
    )
    yield Chapter("Phases", "phases", [phases_section(run, every)])
    yield Chapter("The theorem against measurement", "theorem", [theorem_section(run, pair) for pair in every])
    yield Chapter(
        "Mixing and column sums",
        "mixing",
        _by_data(run, every, _mixing),
        "By block, the mean over heads and prompts; the band is one standard deviation.",
    )
    yield Chapter(
        "Norms",
        "norms",
        _by_data(run, every, _norms),
        "The norm of the sink token against the mean norm of the others, on a logarithmic axis.",
    )
    yield Chapter(
        "Heads",
        "heads",
        [section for pair in every for section in _heads(run, pair)],
        f"The mean over prompts of {shortest} tokens or more. Blocks without softmax attention stay empty. Above the "
        "curve C_min, the least concentration that a sink score leaves, other tokens collect attention too; B is the "
        "sink score, D the mean attention of a token to itself.",
    )
    yield Chapter("Massive activations", "massive", [answers.massive_section(run, pair) for pair in every])
    yield Chapter("Coupling", "coupling", [coupling_section(run, every)])


def _heads(run: Run, pair: Pair) -> Iterator[Section]:
    """All heads as a map, then as points."""
    for section in (answers.head_section(run, pair), planes_section(run, pair)):
        if section is not None:
            yield section


_QUESTIONS: tuple[Callable[[Run, Pair], Answer | None], ...] = (
    answers.massive_answer,
    where_answer,
    phases_answer,
    row_answer,
    answers.sink_answer,
    coupling_answer,
)


def _answered(run: Run, pair: Pair, card: Card) -> Card:
    prompts = run.prompts.filter(pair.rows).select(pl.len()).collect().item()
    noise = noise_sentence([run.header.by_name[pair.model, pair.revision]])
    details = [answers.strongest_heads(run, pair), noise and f"Numbers {noise}", *_doubled(run, pair)]
    return replace(
        card,
        about=f"{card.about}, {counted(prompts, 'prompt')}",
        answers=tuple(answer for question in _QUESTIONS if (answer := question(run, pair)) is not None),
        details=tuple(filter(None, details)),
    )


def _doubled(run: Run, pair: Pair) -> Iterator[str]:
    for covered in run.coverage:
        if covered.bos_twice and covered.pair == (pair.model, pair.revision, pair.data):
            yield bos_remark(run.header, covered)


def _by_data(run: Run, every: Sequence[Pair], section: Callable[[Run, Sequence[Pair], str], Section]) -> list[Section]:
    """One section a data set, named only where there are several."""
    if not run.header.data:
        return []
    if "profile" in run.missing:
        return [Section("", sentences=["Not drawn: the profile is not written yet"])]
    by_data = {facts.name: [pair for pair in every if pair.data == facts.name] for facts in run.header.data}
    several = len(by_data) > 1
    return [replace(section(run, which, data), title=data if several else "") for data, which in by_data.items()]


def _depth(run: Run, which: Sequence[Pair], data: str) -> Section:
    tables = [table for pair in which if (table := _depth_table(run, pair)) is not None]
    panels, key = list(_depth_panels(run, which, THROUGH_DEPTH)), run.survey.header.key if run.survey else ""
    said = [sentence for pair in which if (sentence := _by_kind(run, pair))]
    name = f"depth_profile{ending(run, data)}"
    return Section("", name=name, sentences=said, panels=panels, tables=tables, key=key, rests="profile")


def _by_kind(run: Run, pair: Pair) -> str:
    """Tell the sink rates of blocks that see all tokens before apart from those with a sliding window."""
    if not pair.kinds:
        return ""
    rates = (
        run.profile.filter(pair.rows, pl.col("mean").is_finite(), metric="sink_rate").select("index", "mean").collect()
    )
    said = list[str]()
    for kind in pair.kinds:
        mean: Any = rates.filter(pl.col("index").is_in(kind.places))["mean"].mean()
        named = f"{'a ' * kind.name.startswith('sliding')}{kind.name}"
        said.append(f"{percent(mean)} with {named} (block{'s' * (len(kind.places) > 1)} {spans(kind.places)})")
    longest = run.prompts.filter(pair.rows).select(pl.col("tokens").max()).collect().item()
    windows = run.header.by_name[pair.model, pair.revision].windows or ()
    alike = longest is not None and longest <= min(filter(None, windows), default=0)
    remark = f"; no prompt is longer than {longest:,} tokens, so all see the same" if alike else ""
    return f"{heading(run, pair)}: the mean sink rate is {listing(said)}{remark}"


def _mixing(run: Run, which: Sequence[Pair], data: str) -> Section:
    return Section("", name=f"mixing{ending(run, data)}", panels=list(_depth_panels(run, which, _MIXING)))


def _norms(run: Run, which: Sequence[Pair], data: str) -> Section:
    panels = [_norm_panel(run, pair) for pair in which]
    return Section("", name=f"norms{ending(run, data)}", panels=panels, legend="each", size=(4.2, 3.0))


def _depth_panels(run: Run, which: Sequence[Pair], metrics: dict[str, str]) -> Iterator[Panel]:
    """All models in each panel with their compress phases; models of different depth by share of it."""
    rows = curves(run, which, [*metrics, "rest_norm"])
    shared, spans = share_of_depth(which), shaded(compress_span(run, which[0])) if len(which) == 1 else ()
    colors = [(pair, line_of(number, "", rows).color) for number, pair in enumerate(which)]
    for metric, site in metrics.items():
        name = f"{title(metric)} (others in grey)" if metric == "sink_norm" else title(metric)
        axis = f"share of depth [{site} / blocks]" if shared else site
        bars = tracks(run, colors, site, share=shared) if len(which) > 1 else ()
        below = {"kinds": () if shared else kinds_of(which, site), "tracks": bars}
        yield metric_panel(metric, axis, _depth_lines(run, which, rows, metric), title=name, spans=spans, **below)


def _depth_lines(run: Run, which: Sequence[Pair], rows: pl.DataFrame, metric: str) -> Iterator[Line]:
    at = "depth" if share_of_depth(which) else "index"
    for number, pair in enumerate(which):
        name, of_pair = label_of(run, pair), rows.filter(pair.rows)
        line = line_of(number, name, along(of_pair.filter(metric=metric), at))
        if metric == "sink_norm":
            rest = along(of_pair.filter(metric="rest_norm"), at)
            yield Line(f"{name}, others", rest, GREY, line.dash, named=False, band=False, group=name)
        yield line


def _norm_panel(run: Run, pair: Pair) -> Panel:
    rows = curves(run, [pair], ["sink_norm", "rest_norm"])
    lines = {"sink_norm": ("sink token", PALETTE[0]), "rest_norm": ("mean of the others", GREY)}
    phases = phases_row(run, pair)
    rise = None if phases is None else phases["rest_norm_rise_state"]
    return Panel(
        label_of(run, pair),
        "state",
        f"norm [{unit('sink_norm')}]",
        tuple(Line(name, along(rows.filter(metric=metric), "index"), color) for metric, (name, color) in lines.items()),
        rules=() if rise is None else (Rule("others rise", float(rise), GREY, ":", upright=True),),
        spans=shaded(compress_span(run, pair)),
        log_y=True,
    )


def _depth_table(run: Run, pair: Pair) -> Table | None:
    """Means over prompts: row l holds state l and block l, which reads it; the last state is read by no block."""
    rows = run.profile.filter(pair.rows).collect()
    if not rows.height:
        return None
    means = {tuple(place): mean for *place, mean in rows.select("site", "metric", "index", "mean").iter_rows()}
    phases = dict(rows.filter(site="state").select("index", "phase").iter_rows())
    cells = [
        [depth, *(means.get((*key, depth)) for key in DEPTH_COLUMNS.values() if key), phases[depth]]
        for depth in sorted(phases)
    ]
    return Table(heading(run, pair), tuple(DEPTH_COLUMNS), cells, folded="Every state")


def outcome(experiment: Experiment, run: Run, asked: Mapping[str, Any]) -> Outcome:
    """Tell a run by its depth table, its phases and its coupling."""
    violated, key = run.bound_violations, run.survey.header.key if run.survey else ""
    return Outcome(
        {
            "run": str(run.path),
            "status": run.status,
            "bound_violations": violated,
            "coverage": [pair.model_dump() for pair in run.coverage],
            **{name: getattr(run, name).collect().to_dicts() for name in ("phases", "segments", "claims")},
            "coupling": run.coupling.collect().to_dicts(),
        },
        run,
        sections_of(experiment, run, key),
        lines=[*_said(run), f"run: {run.path}    look at it: thalweg report {quote(str(run.path))}"],
        remarks=[*state_remarks(run), *_more_than_asked(run, asked)],
        exit_code=BOUND_VIOLATED if violated else 0,
    )


def _said(run: Run) -> Iterator[str]:
    """The answers, without what stands beside them."""
    for card in cards(run):
        yield f"{card.title} {card.about}"
        yield from (f"  {answer.question} {answer.text}" for answer in card.answers)
        yield ""


def _more_than_asked(run: Run, asked: Mapping[str, Any]) -> list[str]:
    options = asked.get("options")
    held = max((pair.rows_read for pair in run.coverage), default=0)
    if options is None or options.limit is None or held <= options.limit:
        return []
    return [f"the run already held {held} rows; all of them are in its tables, whatever --limit says."]
