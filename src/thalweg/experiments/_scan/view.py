"""What a scan found: the norm of first tokens at every state, and who reaches the largest."""

from collections.abc import Iterator
from typing import Any

from thalweg.experiments._views import labels, shaded, surveyed_span
from thalweg.shown import PALETTE, Chapter, Panel, Section, Table, amount, counted, line_of, title, unit
from thalweg.store import Findings, Run

COLUMNS = ("rank", "first token", "id", "largest norm", "at state", "born at", "x", "dies at", "x")
LINES = len(PALETTE)
NOTE = (
    "Position 0 sees no other token, so the course of its row lies in the weights. Born: the state of the largest rise "
    "of ln(norm); dies: that of the largest fall after it. Nothing is called massive here: one token has no others to "
    "compare with; a survey does."
)


def chapters(run: Run) -> Iterator[Chapter]:
    """What every scan of every model found."""
    yield Chapter("Scan", "scan", [_section(run, found) for found in reversed(run.experiments("scan"))], NOTE)


def _section(run: Run, found: Findings) -> Section:
    settings = found.header.settings
    name = labels(run.header)[str(settings["model"]), str(settings["revision"])]
    tokens = found.table("tokens").collect().sort("rank").to_dicts()
    norms = found.table("norms").collect()
    lines = [
        line_of(place, repr(row["token"]), norms.filter(id=row["id"]).select(at="state", mean="norm"))
        for place, row in enumerate(tokens[:LINES])
    ]
    spans = shaded(surveyed_span(run, str(settings["model"]), str(settings["revision"])))
    panel = Panel(title("sink_norm"), "state", f"[{unit('sink_norm')}]", tuple(lines), spans=spans, log_y=True)
    sentences = [_sentence(tokens)] if tokens else []
    table = Table(f"{name}: first tokens", COLUMNS, [_row(row) for row in tokens])
    return Section(name, "scan", sentences, [panel], [table], key=found.header.key, rests="tokens, norms")


def _sentence(tokens: list[dict[str, Any]]) -> str:
    best = tokens[0]
    among = f" of {counted(best['scanned'], 'token')}" if best["scanned"] > 1 else ""
    born = f", born at state {best['birth']} (x {amount(best['rise'])})" if best["birth"] is not None else ""
    dies = f", dying at state {best['death']} (x {amount(best['fall'])})" if best["death"] is not None else ""
    largest = " reaches the largest norm" if among else " reaches the norm"
    norm = f"{amount(best['peak_norm'])} at state {best['peak_state']}"
    return f"As first token {best['token']!r}{among}{largest}, {norm}{born}{dies}"


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    columns = ("rank", "token", "id", "peak_norm", "peak_state", "birth", "rise", "death", "fall")
    return tuple(repr(row[name]) if name == "token" else amount(row[name]) for name in columns)
