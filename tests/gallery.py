"""An experiment that shows one of everything that the vocabulary has, for whoever paints it."""

from contextlib import contextmanager

import numpy as np
import polars as pl

import thalweg.experiments
from thalweg.experiments import Experiment, register
from thalweg.shown import (
    GREY,
    INK,
    MARK,
    Answer,
    Bars,
    Card,
    Chapter,
    Heat,
    Kind,
    Line,
    Panel,
    Points,
    Rule,
    Scale,
    Section,
    Span,
    Table,
    Ticks,
    Track,
    line_of,
)

NAN = float("nan")
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
NAMES = (EVIL, "$\\frac{x}{$", "_hidden", "two\nlines", "line\u2028separator", "模型", "a & b", "%{x} <b>bold</b>")
"""What names from outside may hold."""


TOKENS = ("<s>", "1 'the'", "2 'the'", "</script>", "'\\n'", "$x$")
PIECES = ("<s>", "\N{OPEN BOX}the", "\N{OPEN BOX}the", EVIL, "\\n", "x" * 200)


def spread(mean, width=0.1, at=None):
    """Rows of a line with a band around it."""
    mean = np.asarray(mean, dtype=float)
    places = list(range(len(mean))) if at is None else at
    return pl.DataFrame({"at": places, "mean": mean, "lower": mean - width, "upper": mean + width})


def bare(mean, at=None):
    return spread(mean, at=at).select("at", "mean")


def share_panel():
    rows = spread([0.9, 0.8, NAN, 0.3, 0.2, 0.6])
    return Panel(
        "Shares with a gap",
        "state",
        "[no unit]",
        (line_of(0, "first", rows), line_of(8, "second", bare([0.1, 0.2, 0.3, 0.3, 0.2, 0.1]), width=3.0)),
        rules=(Rule("chance", 0.25), Rule("emerges", 2.0, MARK, ":", upright=True)),
        spans=(Span("compress phase", 2, 4),),
        share=True,
        kinds=(Kind("full attention", (1, 4), MARK), Kind("window of 512", (0, 2, 3), GREY)),
    )


def log_panel():
    sink = spread([1.0, 40.0, 900.0, 1200.0, 0.0, 3.0], width=30.0)
    rest = Line("first", bare([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), GREY, named=False, band=False)
    grouped = Line("others of second", bare([2.0, 3.0, NAN, 4.0, 5.0, 6.0]), GREY, "--", named=False, group="second")
    level, never = Rule("threshold", 10.0, dash="-."), Rule("nowhere", 0.0)
    lines = (Line("first", sink), rest, grouped)
    bars = (Track("mix", -0.5, 1.5, lines[0].color, "first"), Track("mix", 2.0, 3.0, MARK, "second"))
    axis = "norm [activation units]"
    return Panel("Norms", "state", axis, lines, rules=(level, never), tracks=bars, log_y=True)


def gamma_panel():
    rows = spread([0.2, 0.5, 0.7, 0.72], at=[1.0, 10.0, 100.0, 1000.0])
    marks = (Rule("largest ordinary", 20.0, MARK, ":", upright=True), Rule("below", -1.0, upright=True))
    return Panel("Clipped", "gamma [activation units]", "[nats]", (Line("first", rows),), rules=marks, log_x=True)


def bars_panel():
    places = Ticks((-1, 0, 1, 2), ("emb", "0", "1", "2"))
    peak = pl.DataFrame({"at": [1], "mean": [10.0], "where": ["block <1>"]})
    return Panel(
        "Added along the row",
        "block",
        "component [activation units]",
        (Line("the row itself", bare([1.0, 3.0, 12.0, 11.0], at=[-0.5, 0.5, 1.5, 2.5]), GREY, step=True, band=False),),
        bars=(
            Bars("embedding", bare([1.0], at=[-1]), GREY, named=False),
            Bars("attention", spread([1.0, NAN, -0.5], 0.2, at=[0, 1, 2])),
            Bars("MLP", spread([1.0, 9.0, -0.5], 0.4, at=[0, 1, 2]), MARK),
        ),
        points=(Points("peak", peak, INK, said="{where}"),),
        ticks=places,
    )


def grid(rows=4, columns=6):
    values = np.linspace(0.01, 1.0, rows * columns).reshape(rows, columns)
    values[1, 2] = NAN
    return values


def map_panel():
    dots = np.zeros((4, 6), dtype=bool)
    dots[3, 1] = dots[0, 5] = True
    heat = Heat(grid(), "no unit", 0.0, 1.0, dots=dots, dotted="the head changes")
    return Panel("Sink score", "block", "head", heat=heat, tracks=(Track("compress phase", 1.5, 5.5),))


def change_panel():
    return Panel("Change", "block", "head", heat=Heat(grid() - 0.5, "nats", -0.5, 0.5, diverging=True))


def ratio_panel():
    values = grid() * 1000
    values[2, 2] = 0.0
    heat = Heat(values, "no unit", 1.0, 1000.0, log=True)
    return Panel("Norm ratio", "checkpoint [in order]", "state", heat=heat, ticks=Ticks((0, 5), ("0", "143k")))


def scale_panel(title="Entropy"):
    scale = Scale("optimizer step [steps]", 0.0, 3.0, Ticks((0.0, 3.0), ("1", "1k")), ("#fde725", "#21918c", "#440154"))
    lines = [
        Line(f"step {place}", bare(np.full(4, 0.2 * place)), color, named=False)
        for place, color in enumerate(scale.colors)
    ]
    return Panel(title, "state", "[no unit]", tuple(lines), scale=scale)


def tokens_panel():
    values = np.tril(grid(6, 6))
    values[np.triu_indices(6, 1)] = NAN
    return Panel(
        "Attention", "key", "query", heat=Heat(values, "no unit", 0.0, 1.0, up=TOKENS, along=TOKENS, down=True)
    )


def norms_panel():
    norms = np.geomspace(1.0, 10_000.0, 24).reshape(4, 6)
    norms[0, 3] = NAN
    return Panel("Norm", "token", "state", heat=Heat(norms, "activation units", 1.0, 10_000.0, log=True, along=TOKENS))


def looks_panel():
    looks, heads = np.array([[0, 0, 0, 3, 0, 0], [0, 0, 1, 2, 3, 4]]), ("block 1, head 0", EVIL)
    heat = Heat(looks, "token", 0.0, 5.0, up=heads, along=TOKENS, pointing=True)
    return Panel("Looks at", "token", "head", heat=heat)


def plane_panel():
    rows = pl.DataFrame(
        {
            "at": [0.1, 0.9, NAN, 0.5],
            "mean": [0.2, 0.8, 0.1, 0.3],
            "head": ["a head", EVIL, "no place", "another"],
            "shade": [0, 2, 1, 3],
        }
    )
    scale = Scale("block", 0.0, 3.0, Ticks((0, 3), ("0", "3")), ("#fde725", "#21918c", "#440154"))
    curve = Line("least", bare([0.1, 0.3, 0.7], at=[0.0, 0.5, 1.0]), INK, "--")
    points = Points("heads", rows, named=False, said="block {shade}, {head}")
    return Panel("Heads", "score [no unit]", "[no unit]", (curve,), points=(points,), scale=scale)


def empty_panel():
    return Panel("Nothing", "state", "[nats]", (Line("first", spread([NAN, NAN])),), log_y=True)


def evil_panel():
    lines = tuple(line_of(place, name, spread([1.0, 2.0 + place, 3.0])) for place, name in enumerate(NAMES))
    ticks = Ticks((0, 1, 2), NAMES[:3])
    return Panel(EVIL, EVIL, f"{EVIL} [unit]", lines, rules=(Rule(f"rule {EVIL}", 1.0),), ticks=ticks)


def sections():
    """Sections that together hold every feature."""
    table = Table(
        "what each state reaches", ("state", "entropy", "phase", "held"), [[0, 0.5, None, True], [1, NAN, EVIL, False]]
    )
    return [
        Section(
            "gpt2 on words",
            "gallery_gpt2",
            ["Entropy falls to 0.2 at state 4", "the first line has a gap"],
            [share_panel(), log_panel(), gamma_panel(), bars_panel(), empty_panel()],
            [
                table,
                Table("single rows", ("row",), [], folded="Nothing folded"),
                Table("folded", ("row", "n"), [["a", 12345]], "1 more.", "Every row"),
            ],
            "gamma: 1, 10",
            key="abc",
        ),
        Section(
            "",
            "gallery_maps",
            panels=[map_panel(), change_panel(), ratio_panel(), tokens_panel()],
            legend="each",
            headline="maps: of gpt2",
        ),
        Section(
            "over training",
            "gallery_gpt2",
            panels=[scale_panel(), scale_panel("Rate"), plane_panel()],
            columns=2,
            key="older",
            folded=True,
            sentences=["It emerges", "and stays"],
        ),
        Section("a text", "gallery_text", panels=[norms_panel(), looks_panel()], columns=2, text=PIECES),
        Section(
            EVIL,
            "gallery_evil",
            [EVIL],
            [evil_panel()],
            [Table(EVIL, (EVIL,), [[EVIL]], EVIL, EVIL)],
            EVIL,
            legend="each",
            columns=1,
            size=(6.0, 3.0),
        ),
    ]


def only_sections():
    """What is shown in one place alone."""
    tables = [Table(f"table of the {place}", ("n",), [[1]], only=place) for place in ("page", "terminal")]
    return [
        Section("", "gallery_page", ["said on the page alone"], [log_panel()], only="page"),
        Section("", "gallery_terminal", ["said on the terminal alone"], [log_panel()], only="terminal"),
        Section("both", tables=tables),
    ]


def chapters(_run):
    yield Chapter("Gallery", "gallery", sections(), "Everything there is.")
    yield Chapter("Only here", "only", only_sections())
    yield Chapter("Terminal", "terminal", only_sections()[1:2])
    yield Chapter("Nothing to see", "nothing", [])


def cards(_run):
    answers = [
        Answer("Massive activations?", "yes", "states 2 to 7 of 8", ("A note.", "Another.")),
        Answer("Which heads sink?", "unknown", EVIL),
    ]
    yield Card("gpt2", "on words, 8 prompts", answers, "A test model: planted.", ("The strongest: block 2",))


def gallery():
    """Show one of everything."""


EXPERIMENT = Experiment("gallery", {}, gallery, "Measure", (), "tests.gallery")


@contextmanager
def alone(experiment=EXPERIMENT):
    """Leave the experiment as the only one there is."""
    built_in, registered = thalweg.experiments.BUILT_IN, thalweg.experiments._registered[:]
    thalweg.experiments.BUILT_IN = ()
    thalweg.experiments._registered.clear()
    try:
        register(experiment)
        yield experiment
    finally:
        thalweg.experiments.BUILT_IN = built_in
        thalweg.experiments._registered[:] = registered
