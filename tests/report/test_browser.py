"""What a person has before them in a browser: charts, heads, tables, keys, light, dark, print and a narrow screen."""

import csv
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import sync_playwright
from tests.advised import with_maps
from tests.gallery import EVIL, PIECES, alone, sections
from tests.synthetic_run import PLANTED, Plant, build_run, header, open_survey, write_aggregates, write_parts
from tests.synthetic_training import build_training

from thalweg.catalogue import metric
from thalweg.experiments import pairs
from thalweg.report import write_report
from thalweg.store import open_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
WIDE, PHONE = (1400, 900), (375, 700)
SETTLED = "() => [...document.querySelectorAll('.plot[data-drawn]')].every((plot) => plot.dataset.drawn === 'yes')"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("run") / "run", (PLANTED,), ("words",))


@pytest.fixture(scope="module")
def files(tmp_path_factory, run):
    """A page of one of everything that there is to draw, one of a survey, of a training, and of what was compared."""
    place = tmp_path_factory.mktemp("pages")
    with alone():
        write_report(run, place / "gallery.html")
    write_report(run, place / "survey.html")
    write_report(build_training(place / "training"), place / "training.html")
    write_report(build_run(place / "new", (replace(PLANTED, last=5, value=3000.0),), ("words",)), against=run)
    (place / "new" / "report.html").rename(place / "compared.html")
    return place


@contextmanager
def opened(browser, file, size=WIDE, **how):
    """The file in a window of its own, and then: nothing was complained of, and nothing asked for outside the file."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, **how)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    yield page
    context.close()
    assert not said
    assert not [url for url in asked if not url.startswith((file.as_uri(), "data:", "blob:"))]


def shown(plot):
    """The chart, once it has come into view and is drawn."""
    plot.scroll_into_view_if_needed()
    plot.page.wait_for_function("plot => plot.dataset.drawn === 'yes'", arg=plot.element_handle())
    return plot


def one_head(page):
    """The numbers of a head, asked for by keys; the block's number is then focused."""
    page.get_by_role("button", name="One head's numbers").first.press("Enter")
    page.wait_for_function("() => document.activeElement.matches('#one-head input')")


def print_it(page):
    """What a browser does before it prints."""
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(SETTLED)


def test_charts_are_drawn_as_they_come_into_view_and_all_before_print(browser, files):
    with opened(browser, files / "gallery.html") as page:
        page.wait_for_selector(".plot[data-drawn='yes']")
        count = page.locator("figure.chart").count()
        assert count == sum(len(section.panels) for section in sections()) + 1
        assert page.locator(".plot[data-drawn]").count() < count
        print_it(page)
        assert page.locator(".plot[data-drawn='yes'] .main-svg").count() >= count
        seen = "plots => plots.map((plot) => plot.data.length && plot.querySelector('.cartesianlayer').children.length)"
        assert all(page.locator("figure .plot").evaluate_all(seen))
        widths = page.locator(".plot").evaluate_all("plots => plots.map((plot) => plot.layout.width)")
        assert set(widths) == {340}
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("main details[open]:not(.tools)").count() == 0


def test_a_click_on_a_head_shows_its_numbers_and_how_to_map_it(browser, files, run):
    (pair,) = pairs(run)
    rows = run.heads.filter(pair.rows, block=5, head=2).join(
        run.prompts.filter(pl.col("sink_uniform") < 0.3), on="prompt"
    )
    mean = rows.select(pl.col("sink_score").cast(pl.Float64).mean()).collect().item()
    with opened(browser, files / "survey.html") as page:
        plot = page.locator("figure[data-heads] .plot").first
        shown(plot)
        pixel = "[5, 2][n]) + axis._offset"
        at = plot.evaluate(f"({{_fullLayout: own}}) => [own.xaxis, own.yaxis].map((axis, n) => axis.l2p({pixel})")
        plot.click(position={"x": at[0], "y": at[1]})
        told = page.locator("#one-head dl").inner_text()
        assert f"{metric('sink_score').label}\n{mean:.3g}\n" in told
        assert page.locator("#one-head code").inner_text() == (
            f"thalweg heads {run.path} --prompt 0 --blocks 5 --heads 2"
        )
        page.keyboard.press("Escape")
        assert not page.locator("#one-head").is_visible()
        one_head(page)
        page.keyboard.type("7")  # what is focused is the block's number
        assert "--blocks 7 --heads 0" in page.locator("#one-head code").inner_text()
        page.get_by_label("head", exact=True).fill("4")
        assert "heads 0 to 3" in page.locator("#one-head").inner_text()
        shown(page.locator("figure[data-heads] .plot").nth(1)).evaluate(
            "plot => plot.emit('plotly_click', { points: [{ data: {}, customdata: plot.data.at(-2).customdata[13] }] })"
        )
        told = "() => document.querySelector('#one-head code').textContent.endsWith('--blocks 3 --heads 1')"
        page.wait_for_function(told)


def test_a_comparison_is_read_as_the_same_page(browser, files, run):
    with opened(browser, files / "compared.html") as page:
        place = page.locator("#compare")
        first = page.locator("#contents li").nth(1).inner_text()
        assert first == place.locator("h2").inner_text() == "Compared"
        assert "peak value 1,498 -> 3,000" in place.inner_text()
        shown(place.locator(".plot").first)
        old, new = place.locator(".legend button").all()[:2]
        assert (old.inner_text(), new.inner_text()) == ("planted on words (run)", "planted on words (new)")
        old.press("Enter")
        drawn = "plot => [...plot.data, ...plot.layout.shapes].map((each) => [each.legendgroup, each.visible ?? true])"
        for plot in [shown(plot) for plot in place.locator(".shown").first.locator(".plot").all()]:
            seen = plot.evaluate(drawn)
            assert dict(seen) == {old.inner_text(): False, new.inner_text(): True}
        maps = [shown(plot) for plot in place.locator("figure[data-heads] .plot").all()]
        bars = "plot => plot.layout.shapes.map((shape) => [shape.name, shape.x0, shape.x1])"
        assert [plot.evaluate(bars) for plot in maps] == 2 * [
            [
                [f"compress phase of {old.inner_text()}", 1.5, 7.5],
                [f"compress phase of {new.inner_text()}", 1.5, 5.5],
            ]
        ]
        at = maps[0].evaluate(
            "({ _fullLayout: own }) => [own.xaxis, own.yaxis].map((axis, n) => axis.l2p([5, 2][n]) + axis._offset)"
        )
        maps[0].click(position={"x": at[0], "y": at[1]})
        assert "--blocks 5 --heads 2" in page.locator("#one-head code").inner_text()
        place.locator(".made summary").press("Enter")
        assert place.locator(".made code").inner_text().startswith(f"thalweg compare {run.path} ")
        print_it(page)
        assert place.locator(".plot[data-drawn='yes']").count() == place.locator("figure").count() == 14


def column(table, place):
    return table.locator(f"tbody tr td:nth-child({place})").all_inner_texts()


@pytest.mark.parametrize("packed", [True, False])
def test_a_head_whose_map_the_run_holds_shows_it_with_its_tokens(browser, run, tmp_path, monkeypatch, packed):
    if packed:
        monkeypatch.setattr("thalweg.report._page.PACKED_FROM", 0)
    held = open_run(with_maps(Path(shutil.copytree(run.path, tmp_path / "run"))))
    with opened(browser, write_report(held)) as page:
        assert (page.locator("figure script[type='application/gzip']").count() > 0) is packed
        one_head(page)
        assert not page.locator("#one-head .map").is_visible()
        page.keyboard.type("1")
        page.wait_for_selector("#one-head .map .main-svg")
        assert not page.locator("#one-head .how").is_visible()
        of = "planted on words, prompt 0. mix: sink (block 1, head 0)"
        assert page.locator("#one-head .caption").inner_text() == of
        shares = page.locator("#one-head .tokens span").evaluate_all("all => all.map((token) => token.title)")
        assert shares == ["1.0", *["0.0010"] * 5]  # what is less than a thousandth is drawn as a thousandth
        words = page.locator("#one-head .tokens span").all_inner_texts()
        assert words[0].endswith("<0>\\n")


def piece(page, at):
    """What is told of one piece of the text, and its colours."""
    looks = "each => [getComputedStyle(each).backgroundColor, getComputedStyle(each).color]"
    own = page.locator(".pieces [role=option]").nth(at)
    return own.get_attribute("aria-label"), *own.evaluate(looks)


def test_a_text_is_coloured_by_the_row_of_a_map_that_is_chosen(browser, files):
    with opened(browser, files / "gallery.html") as page:
        text = page.locator(".reading")
        quantity, place = text.get_by_label("Coloured by"), text.locator("input[type=range]")
        assert text.locator(".caption").inner_text() == "Norm, state 3 [activation units]"  # of the largest value
        assert text.locator(".numbers span").all_inner_texts() == ["1", "21.5", "464", "10,000"]
        assert piece(page, 5) == (f"token 5, {PIECES[5]}: 10,000 activation units", "rgb(254, 232, 56)", "rgb(0, 0, 0)")
        place.press("Home")
        assert place.get_attribute("aria-valuetext") == text.locator("output").inner_text() == "state 0"
        assert piece(page, 0) == ("token 0, <s>: 1 activation units", "rgb(0, 34, 78)", "rgb(255, 255, 255)")
        said, ground, _ = piece(page, 3)
        assert (said, ground) == (f"token 3, {EVIL}: \N{EN DASH}", "rgba(0, 0, 0, 0)")
        quantity.select_option("Looks at")
        assert place.get_attribute("max") == "1"
        assert piece(page, 3)[0] == f"token 3, {EVIL}: to token 3, {EVIL}"
        place.press("End")
        assert text.locator("output").inner_text() == EVIL
        assert piece(page, 5)[0] == f"token 5, {PIECES[5]}: to token 4, \\n"
        quantity.select_option("Norm")
        assert text.locator("output").inner_text() == "state 0"  # as it was left


def test_pieces_of_a_text_tell_the_mouse_and_the_keyboard_what_they_are(browser, files):
    with opened(browser, files / "gallery.html") as page:
        told, pieces = page.locator("#definition"), page.locator(".pieces [role=option]")
        pieces.nth(1).hover()
        assert told.inner_text() == piece(page, 1)[0]
        page.mouse.move(0, 0)
        assert not told.is_visible()
        page.locator(".reading input[type=range]").focus()
        page.keyboard.press("Tab")
        for key, at in (("", 0), ("ArrowRight", 1), ("End", 5), ("ArrowDown", 5), ("ArrowLeft", 4), ("Home", 0)):
            if key:
                page.keyboard.press(key)
            assert pieces.nth(at).evaluate("each => each === document.activeElement && each.tabIndex === 0")
            assert told.inner_text() == piece(page, at)[0]
        assert page.locator(".pieces [tabindex='0']").count() == 1
        page.keyboard.press("Escape")
        assert not told.is_visible()


def test_a_click_on_a_map_beside_a_text_colours_the_text_by_its_row(browser, files):
    with opened(browser, files / "gallery.html") as page:
        plots = page.locator(".shown:has(.reading) .plot")
        for number, row, said in ((0, 1, "state 1"), (1, None, EVIL)):
            shown(plots.nth(number)).evaluate(
                "({ data: [data], emit }, row) => emit('plotly_click', { points: [{ y: row ?? data.y[1], data }] })",
                row,
            )
            assert page.locator(".reading output").inner_text() == said
            assert page.get_by_label("Coloured by").input_value() == str(number)


def number(text):
    return float(text.replace(",", ""))


def test_tables_sort_by_mouse_and_by_keys(browser, files):
    with opened(browser, files / "survey.html") as page:
        page.get_by_text("Every state").click()
        table = page.locator("#depth table")
        values = column(table, 3)
        norm = table.get_by_role("button", name="sink norm")
        norm.click()
        assert column(table, 3) == sorted(values, key=number) != sorted(values)
        assert norm.locator("..").get_attribute("aria-sort") == "ascending"
        norm.press("Enter")
        assert column(table, 3) == sorted(values, key=number, reverse=True)
        rate = table.get_by_role("button", name="sink rate")
        rate.press("Enter")
        assert column(table, 7)[-1] == "\N{EN DASH}"
        assert table.locator("[aria-sort]").count() == 1


def test_a_name_says_what_it_means_to_the_mouse_and_to_the_keyboard(browser, files):
    with opened(browser, files / "survey.html") as page:
        told, term = page.locator("#definition"), page.locator("#depth figcaption a").first
        assert not told.is_visible()
        term.hover()
        assert metric("entropy_normalized").reads_as in told.inner_text()
        page.mouse.move(0, 0)
        assert not told.is_visible()
        term.focus()
        assert told.is_visible()
        page.keyboard.press("Escape")
        assert not told.is_visible()


def test_a_chart_is_zoomed_and_saved_by_keys(browser, files, tmp_path):
    with opened(browser, files / "gallery.html") as page:
        page.wait_for_function(SETTLED)
        figure = page.locator("figure.chart").first
        figure.locator(".tools summary").press("Enter")
        span = "plot => plot.layout.xaxis.range[1] - plot.layout.xaxis.range[0]"
        whole = figure.locator(".plot").evaluate(span)
        figure.get_by_role("button", name="Zoom in").press("Enter")
        assert figure.locator(".plot").evaluate(span) == pytest.approx(whole / 2)
        figure.get_by_role("button", name="Reset").press("Enter")
        assert figure.locator(".plot").evaluate(span) == pytest.approx(whole)
        for kind, begins in (("SVG", b"<svg"), ("PNG", b"\x89PNG"), ("CSV", b'"name","state"')):
            with page.expect_download() as saved:
                figure.get_by_role("button", name=kind).press("Enter")
            saved.value.save_as(tmp_path / kind)
            assert saved.value.suggested_filename == f"Shares_with_a_gap.{kind.lower()}"
            assert (tmp_path / kind).read_bytes().startswith(begins)
        rows = list(csv.reader((tmp_path / "CSV").read_text().splitlines()))
        assert [row[:3] for row in rows[1:4]] == [["first", "0", "0.9"], ["first", "1", "0.8"], ["first", "2", ""]]


def test_lines_and_bars_are_switched_by_the_legend_before_and_after_they_are_drawn(browser, files):
    with opened(browser, files / "gallery.html", size=(1400, 300)) as page:
        page.locator(".legend button[data-series='second']").first.press("Enter")
        shown(page.locator(".plot").nth(1))
        hidden = "plot => plot.data.filter((trace) => trace.visible === false).map((trace) => trace.legendgroup)"
        plots = page.locator(".plot[data-drawn='yes']")
        assert plots.nth(0).evaluate(hidden) == ["second"]
        assert plots.nth(1).evaluate("plot => plot.layout.shapes.map((shape) => shape.visible)") == [True, False]
        page.locator(".legend button[data-series='second']").first.press("Enter")
        assert plots.nth(0).evaluate(hidden) == []


def test_a_slider_moves_through_checkpoints(browser, files):
    with opened(browser, files / "training.html") as page:
        slider = page.locator("#training input[type=range]")
        figure = shown(page.locator(".shown", has=page.locator("input[type=range]")).locator(".plot").first)
        faint = "plot => plot.data.map((trace) => trace.opacity ?? 1)"
        slider.press("ArrowRight")
        slider.press("ArrowRight")
        assert figure.evaluate(faint)[:5] == [0.1, 1, 0.1, 0.1, 0.1]
        assert page.locator("#training output").inner_text() == slider.get_attribute("aria-valuetext")
        slider.press("Home")
        assert set(figure.evaluate(faint)) == {1}


def test_the_contents_follow_the_reader_and_fold_on_a_phone(browser, files):
    with opened(browser, files / "survey.html") as page:
        contents = page.locator("#contents")
        for name in ("Heads", "Through depth"):
            contents.get_by_role("link", name=name, exact=True).click()
            page.wait_for_function("name => document.querySelector('[aria-current]')?.textContent === name", arg=name)
        assert contents.locator("[aria-current]").count() == 1
        page.set_viewport_size({"width": 375, "height": 700})
        page.wait_for_function("() => !document.querySelector('#contents').open")


def test_every_chapter_says_how_it_was_made_and_lends_the_command(browser, files):
    with opened(browser, files / "survey.html") as page:
        made = page.locator("#heads .made")
        made.locator("summary").press("Enter")
        assert "lab/planted on words: 8 prompts of 8 rows" in made.inner_text()
        assert made.locator("code").inner_text() == "thalweg survey lab/planted"
        made.get_by_role("button").press("Enter")
        page.wait_for_function("() => /Copied|Selected/.test(document.querySelector('#heads .copy').textContent)")


FAINT = """() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (color) => color.slice(0, 3).map((c) => linear(c / 255))
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const under = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), faint = [];
  while (words.nextNode()) {
    const element = words.currentNode.parentElement, style = getComputedStyle(element);
    if (element.closest("script, style, noscript, #js-plotly-tester, .skip")) continue;
    if (!words.currentNode.data.trim()) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const pair = [parts(element.closest("svg") ? style.fill : style.color), under(element)].map(light);
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (contrast < 4.5) faint.push([words.currentNode.data.trim(), contrast.toFixed(2)]);
  }
  return faint;
}"""


@pytest.mark.parametrize("file", ["gallery.html", "survey.html", "compared.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_in_light_and_dark_and_on_paper(browser, files, file, scheme):
    with opened(browser, files / file, color_scheme=scheme) as page:
        page.wait_for_function(SETTLED)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        if page.locator(".legend button").count():
            page.locator(".legend button").first.click()
        page.wait_for_function(SETTLED)
        assert page.evaluate(FAINT) == []
        print_it(page)
        assert page.evaluate(FAINT) == []
        swatches = page.locator(".legend i").evaluate_all(
            "all => all.map((each) => [getComputedStyle(each).printColorAdjust, each.getBoundingClientRect().width])"
        )
        assert all(kept == "exact" and (width >= 18 or width == 0) for kept, width in swatches)


@pytest.mark.parametrize("file", ["gallery.html", "survey.html", "training.html", "compared.html"])
def test_nothing_runs_off_a_phone(browser, files, file):
    with opened(browser, files / file, size=PHONE) as page:
        page.evaluate("for (const each of document.querySelectorAll('main details')) each.open = true")
        page.wait_for_function(SETTLED)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        beyond = "all => all.filter((each) => each.getBoundingClientRect().right > innerWidth + 1).length"
        assert (
            page.locator("body *:not(.wide *):not(svg *):not(.skip):not(#js-plotly-tester)").evaluate_all(beyond) == 0
        )


def test_every_control_has_a_name_and_is_reached_by_tab(browser, files):
    with opened(browser, files / "survey.html") as page:
        page.wait_for_function(SETTLED)
        controls = "a[href], button, input, summary"
        page.evaluate(
            "which => [...document.querySelectorAll(which)].filter((each) => each.checkVisibility())"
            ".forEach((each, at) => (each.dataset.stop = at))",
            controls,
        )
        stops = page.locator("[data-stop]").count()
        for each in page.locator("[data-stop]").all()[:stops]:
            assert each.evaluate("each => each.ariaLabel || each.textContent.trim() || each.labels?.length")
        reached = []
        for _ in range(stops):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("Number(document.activeElement.dataset.stop)"))
        assert reached == list(range(stops))
        assert all(
            page.locator("figure .plot").evaluate_all("all => all.map((each) => each.ariaLabel.includes('Along:'))")
        )


RUN = "document.documentElement.setAttribute('data-ran','yes')"
ATTACKS = (
    f"</script><script>{RUN}</script>",
    f'<img src=x onerror="{RUN}">',
    f'<svg onload="{RUN}">',
    f"'\" autofocus onfocus={RUN} onmouseover={RUN} x='",
    f"--></style></title></textarea><script>{RUN}</script>",
    f'<a href="javascript:{RUN}">x</a>',
    f"&lt;img src=x onerror={RUN}&gt;",
    f"\\u003cscript\\u003e{RUN}\\u003c/script\\u003e",
    f"\u2028{RUN}\u2029//",
    "<!--<script>",
    "]]><![CDATA[",
    "{{7*7}}{% include '/etc/passwd' %}${7*7}",
    "<iframe src=https://evil.example></iframe>",
    "<base href=https://evil.example>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<style>@import 'https://evil.example'</style>",
    "<img src=https://evil.example/x>",
)


def test_hostile_names_run_nothing_and_call_nobody(browser, tmp_path):
    named = zip(ATTACKS[::2], (*ATTACKS[1::2], ATTACKS[0]), strict=True)
    models = tuple(Plant(name, 3, 1, 1, 1, (3,), 900.0, revision=revision) for name, revision in named)
    data = (" ".join(ATTACKS[:3]),)
    with open_survey(tmp_path / "run", header(models, data)) as writer:
        write_parts(writer, models, data, prompts=2, token="".join(ATTACKS))
        write_aggregates(writer, models, data)
        writer.update(status="finished")
    with opened(browser, write_report(open_run(tmp_path / "run"))) as page:
        one_head(page)
        assert page.locator("#one-head h2").text_content().startswith("script><script>")
        print_it(page)
        assert page.locator("html").get_attribute("data-ran") is None
        assert not re.search("evil.example", page.url)
