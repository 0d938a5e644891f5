"""The page over HTTP: this machine alone, one page, made anew where the run has changed, ended by Ctrl-C."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from html import unescape

import pytest
from tests.gallery import alone
from tests.synthetic_run import PLANTED, build_run, header, open_survey, part_tables

from thalweg.errors import RunError, UsageError
from thalweg.report import write_report
from thalweg.report._watch import WatchedPage, server_of
from thalweg.store import Shard, open_run

DATA = ("words",)


@pytest.fixture(autouse=True, scope="module")
def only_the_gallery():
    with alone():
        yield


@pytest.fixture
def run(tmp_path):
    return build_run(tmp_path / "run", (PLANTED,), DATA, prompts=4)


@pytest.fixture
def asked(run):
    """Ask the server for something, as a browser of this machine would but for what is said."""
    with server_of(WatchedPage(run, run.path / "report.html"), 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def ask(path="/", method="GET", **headers):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.putrequest(method, path, skip_host=True)
            for name, value in {"Host": f"localhost:{server.port}", **headers}.items():
                if value is not None:
                    connection.putheader(name, value.format(port=server.port))
            connection.endheaders()
            answer = connection.getresponse()
            return answer, answer.read().decode()

        try:
            yield ask
        finally:
            server.shutdown()
            thread.join()


def seen(page):
    return re.search(r'text\(\)\) !== "(\w{16})"', page)[1]


def shown(page):
    return page.partition("<body>")[2].partition("<script>")[0]


def test_the_page_is_the_files_with_a_script_that_its_policy_allows(asked, run):
    answer, page = asked()
    assert answer.status == 200
    file = (run.path / "report.html").read_text(encoding="utf-8")
    assert "connect-src" not in file
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    assert policy.startswith("connect-src 'self'; default-src 'none'; script-src 'sha256-")
    added = page[len(file) :] if page.startswith(file[:50]) else ""
    assert "location.reload()" in added
    assert asked("/changed")[1] == seen(page)
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_run_that_grows_is_shown_anew(asked, run):
    before = asked()[1]
    with open_survey(run.path, header((PLANTED,), DATA)) as writer:
        writer.write_part(Shard(PLANTED.name, "main", "words", 4, 8), part_tables(PLANTED, "words", range(4, 8)))
        writer.update()
    assert asked("/changed")[1] != seen(before)
    after = asked()[1]
    assert asked("/changed")[1] == seen(after)
    assert asked()[1] == after


def test_what_cannot_be_drawn_leaves_what_was_shown(asked, run):
    before = asked()[1]
    (run.path / "run.json").write_text("{")
    assert shown(asked()[1]) == shown(before)


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
def test_this_machine_is_answered(asked, host):
    assert asked("/changed", Host=host)[0].status == 200


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example:{port}", "localhost", "localhost:1", "localhost:{port}.evil.example", "0.0.0.0:{port}"],
)
@pytest.mark.parametrize("path", ["/", "/changed"])
def test_another_name_is_refused(asked, host, path):
    answer, said = asked(path, Host=host)
    assert (answer.status, said) == (403, "This page is for this machine alone.\n")


@pytest.mark.parametrize("path", ["/run.json", "/../run.json", "/report.html", "/?x", "/changed/", "/%2e%2e/run.json"])
def test_nothing_else_is_served(asked, path):
    answer, said = asked(path)
    assert (answer.status, said) == (404, "There is one page here: /\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_sent(asked, method):
    answer, _ = asked("/", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_a_head_has_no_body(asked):
    answer, said = asked("/changed", "HEAD")
    assert (answer.status, said, answer.headers["Content-Length"]) == (200, "", "16")


def test_it_listens_to_this_machine_alone(run):
    with server_of(WatchedPage(run, run.path / "report.html"), 0) as server:
        assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_in_use_is_one_line(run):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=rf"--port {port} is in use\. Choose another one, or 0"):
            write_report(run, watch=True, port=port)


def test_what_cannot_be_watched_is_refused(run, tmp_path):
    with pytest.raises(UsageError, match="--port 8000: expected --watch beside it"):
        write_report(run, port=8000)
    for port in (-1, 65536):
        with pytest.raises(UsageError, match=f"--port {port}: expected a number from 0 to 65535"):
            write_report(run, watch=True, port=port)
    with pytest.raises(RunError, match="there is no such directory"):
        write_report(tmp_path / "nowhere", watch=True)


def test_a_browser_is_opened_only_where_it_is_asked_for(run, monkeypatch, caplog):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(opened.append(address)))
    file = write_report(run)
    assert not opened
    write_report(run, opened=True)
    assert opened == [file.resolve().as_uri()]
    assert f"no browser could be opened here; open {file} yourself." in caplog.text


def test_ctrl_c_ends_it(run):
    command = [sys.executable, "-m", "thalweg", "report", str(run.path), "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        address = re.search(r"http://127\.0\.0\.1:(\d+)/", watching.stderr.readline())
        connection = http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=30)
        connection.request("GET", "/changed")
        assert connection.getresponse().status == 200
        os.kill(watching.pid, signal.SIGINT)
        out, err = watching.communicate(timeout=30)
    assert (watching.returncode, out, err) == (0, f"{run.path / 'report.html'}\n", "")


def test_a_run_is_watched_while_it_has_no_prompt_yet(tmp_path):
    with open_survey(tmp_path / "run", header((PLANTED,), DATA)):
        watched = WatchedPage(open_run(tmp_path / "run"), tmp_path / "run" / "report.html")
        assert b"This run is not finished" in watched.page()


def test_what_it_is_compared_with_is_watched_too(run, tmp_path):
    other = build_run(tmp_path / "other", (PLANTED,), DATA, prompts=4)
    page = WatchedPage(run, tmp_path / "page.html", other)
    assert b"planted on words (run) against planted on words (other)" in page.page()
    before = page.state
    os.utime(other.path / "run.json", (1, 1))
    assert page.state != before
