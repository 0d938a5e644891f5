"""Progress is on stderr: a bar on a terminal, a line a minute elsewhere, nothing where nobody asked."""

import io
import sys

import pytest

from thalweg.engines import Progress, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def go(**options):
    with progress_bar("[bold]model[/bold] on data", 100, **options) as progress:
        progress.tokens(5000)
        progress.rows(40)
        progress.rows(60)


@pytest.mark.parametrize(("stream", "shown"), [(io.StringIO, True), (Terminal, False)])
def test_nothing_is_shown_in_the_first_minute_of_a_log_or_where_nobody_asked(monkeypatch, capsys, stream, shown):
    elsewhere = stream()
    monkeypatch.setattr(sys, "stderr", elsewhere)
    go(shown=shown)
    assert elsewhere.getvalue() == ""
    assert capsys.readouterr().out == ""


def test_a_terminal_sees_rows_rate_and_title_as_they_are(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    go()
    seen = terminal.getvalue()
    assert "[bold]model[/bold] on data" in seen
    assert "100/100" in seen
    assert "tokens/s" in seen
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("total", "end"), [(100, " of 100"), (None, "")])
def test_a_log_gets_a_line_a_minute(total, end, monkeypatch):
    log, clock = io.StringIO(), [0.0]
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr("thalweg.engines._progress.time.monotonic", lambda: clock[0])
    with progress_bar("model on data", total) as progress:
        for clock[0], rows in ((10.0, 40), (61.0, 20), (100.0, 10), (122.0, 30)):
            progress.rows(rows)
    assert log.getvalue().splitlines() == [f"model on data: 60{end}", f"model on data: 100{end}"]


@pytest.mark.parametrize("shown", [True, False])
def test_a_log_hears_the_rate_too_and_nothing_where_nobody_asked(shown, monkeypatch):
    log, clock = io.StringIO(), [0.0]
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr("thalweg.engines._progress.time.monotonic", lambda: clock[0])
    with progress_bar("model on data", 4, shown=shown) as progress:
        clock[0] = 100.0
        progress.tokens(5000)
    assert log.getvalue() == ("model on data: 0 of 4, 50 tokens/s\n" if shown else "")


def test_an_unknown_total_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar("title", None) as progress:
        progress.rows(3)


def test_counting_alone_shows_nothing(capfd):
    progress = Progress()
    progress.tokens(3)
    progress.rows(3)
    assert capfd.readouterr() == ("", "")
