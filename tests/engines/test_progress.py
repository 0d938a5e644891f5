"""Progress is on stderr of a terminal, and nowhere else."""

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
def test_nothing_is_shown_where_nobody_looks_or_nobody_asked(monkeypatch, capsys, stream, shown):
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


def test_an_unknown_total_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar("title", None) as progress:
        progress.rows(3)


def test_counting_alone_shows_nothing(capfd):
    progress = Progress()
    progress.tokens(3)
    progress.rows(3)
    assert capfd.readouterr() == ("", "")
