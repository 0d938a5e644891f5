"""The report of six models with 80 blocks of 64 heads each, as Chromium opens it.

Its size, and the seconds from opening it to the charts in view, at the curves through depth and at the maps of heads.
"""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from tests.synthetic_run import Plant, build_run

from benchmarks.measured import Asked, Table, median_cells
from thalweg.report import write_report

MODELS, BLOCKS, HEADS, PROMPTS = 6, 80, 64, 2
# Charts come into view, and then all that were begun are there.
PAINTED = """() => {
  const seen = [...document.querySelectorAll("figure.chart")].filter((figure) => {
    const { top, bottom } = figure.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
  });
  return seen.length && seen.every((figure) => figure.querySelector(".plot").dataset.drawn === "yes");
}"""


def tables(asked: Asked) -> list[Table]:
    """Megabytes, and seconds by the place that the page is opened at."""
    models = tuple(
        Plant(f"lab/model{number}", BLOCKS, HEADS, 8, 70, (3, 9), 900.0, tuple(range(0, HEADS, 3)))
        for number in range(MODELS)
    )
    table = Table(f"{MODELS} models, {BLOCKS} blocks, {HEADS} heads", ("what", "median", "range", "target"))
    with tempfile.TemporaryDirectory() as folder:
        page = write_report(build_run(Path(folder) / "run", models, ("words",), prompts=PROMPTS))
        table.rows.append(("size", f"{page.stat().st_size / 1e6:.2f} MB", "", "below 6 MB"))
        for place in ("depth", "heads"):
            seconds = [_painted(f"{page.as_uri()}#{place}") for _ in range(asked.runs)]
            table.rows.append((f"opened at #{place}", *median_cells(seconds, "{:.2f} s"), "below 2 s"))
    return [table]


def _painted(address: str) -> float:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(address, wait_until="commit")
        page.wait_for_function(PAINTED)
        seconds = page.evaluate("performance.now()") / 1000
        browser.close()
    return seconds
