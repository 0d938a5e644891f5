"""The report of many models with many heads, as a browser opens it: a part of ``make bench``."""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.synthetic_run import Plant, build_run

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


def page_numbers(runs: int) -> tuple[float, dict[str, list[float]]]:
    """Give the page's size in MB, and the seconds from opening it to what is in view, by the place it is opened at."""
    models = tuple(
        Plant(f"lab/model{number}", BLOCKS, HEADS, 8, 70, (3, 9), 900.0, tuple(range(0, HEADS, 3)))
        for number in range(MODELS)
    )
    with tempfile.TemporaryDirectory() as folder:
        page = write_report(build_run(Path(folder) / "run", models, ("words",), prompts=PROMPTS))
        size = page.stat().st_size / 1e6
        return size, {
            place: [_painted(f"{page.as_uri()}#{place}") for _ in range(runs)] for place in ("depth", "heads")
        }


def _painted(address: str) -> float:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(address, wait_until="commit")
        page.wait_for_function(PAINTED)
        seconds = page.evaluate("performance.now()") / 1000
        browser.close()
    return seconds
