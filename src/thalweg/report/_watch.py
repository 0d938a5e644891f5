"""A page that shows itself anew while its run is written: over HTTP, to this machine alone.

Served is the page that is on disk with one more script, which asks whether the run has changed, and then loads the page
again; browsers keep the place on it. The file's own policy allows no connection, and stays as it is. A page of another
site that has this machine's name point here (DNS rebinding) is known by the Host header, and refused.
"""

import base64
import errno
import hashlib
import os
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from thalweg.errors import ThalwegError, UsageError
from thalweg.report._page import write_page
from thalweg.store import Run, open_run

LOOPBACK = "127.0.0.1"
NAMES = (LOOPBACK, "localhost", "[::1]")
SECONDS = 5
"""Between two questions."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_POLICY = "default-src 'none'; script-src ".replace("'", "&#39;")
_ASKING = """
setInterval(async () => {{
  try {{
    const answer = await fetch("changed", {{cache: "no-store"}});
    if (answer.ok && (await answer.text()) !== "{seen}") location.reload();
  }} catch {{}}
}}, {milliseconds});
"""


class WatchedPage:
    """The page of a run, made anew where the run has changed since."""

    def __init__(self, run: Run, file: Path, against: Run | None = None) -> None:
        self.run, self.file, self.against = run, file, against
        self._lock, self._seen, self._page = threading.Lock(), "", b""
        self.page()

    @property
    def _runs(self) -> list[Run]:
        return [self.run, *([self.against] if self.against else [])]

    @property
    def state(self) -> str:
        """Stands for all that is written of the run: another one where something was."""
        seen = hashlib.sha256()
        for path in sorted(path for run in self._runs for path in run.path.rglob("*.json")):
            with suppress(OSError):  # a writer may have removed it meanwhile
                seen.update(f"{path} {path.stat().st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
        return seen.hexdigest()[:16]

    def page(self) -> bytes:
        """What is shown now; where it cannot be drawn, as in the middle of a damage, what was shown before."""
        with self._lock:
            state = self.state
            if state != self._seen:
                try:
                    run, *other = (open_run(each.path) for each in self._runs)
                    write_page(run, self.file, *other)
                except ThalwegError:
                    if not self._page:
                        raise
                self._seen, self._page = state, asking(self.file.read_text(encoding="utf-8"), state).encode()
            return self._page


def asking(page: str, seen: str) -> str:
    """Give a page that asks whether what it shows has changed."""
    script = _ASKING.format(seen=seen, milliseconds=1000 * SECONDS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    before, policy, after = page.partition(_POLICY)
    if not policy:
        raise ValueError("expected a page with thalweg's policy")
    return f"{before}connect-src 'self'; {policy}'sha256-{digest}' {after}<script>{script}</script>\n"


class _Server(ThreadingMixIn, TCPServer):
    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would share the port with another program

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.socket.getsockname()[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone is no error; what else there is, is told."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Answers(BaseHTTPRequestHandler):
    server_version, sys_version, timeout = "thalweg", "", 10
    shown: WatchedPage
    port: int

    def do_GET(self) -> None:
        answers: dict[str, tuple[str, Callable[[], bytes]]] = {
            "/": ("text/html; charset=utf-8", self.shown.page),
            "/changed": ("text/plain; charset=utf-8", lambda: self.shown.state.encode()),
        }
        host, port = self.headers.get("Host", ""), self.port
        if host not in {f"{name}:{port}" for name in NAMES}:
            return self._send(HTTPStatus.FORBIDDEN, b"This page is for this machine alone.\n")
        if self.path not in answers:
            return self._send(HTTPStatus.NOT_FOUND, b"There is one page here: /\n")
        kind, content = answers[self.path]
        return self._send(HTTPStatus.OK, content(), kind)

    do_HEAD = do_GET

    def _refuse(self) -> None:
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, b"This page can be read, and nothing else.\n")

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _send(self, status: HTTPStatus, content: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        allowed = {"Allow": "GET, HEAD"} if status == HTTPStatus.METHOD_NOT_ALLOWED else {}
        for name, value in {**HEADERS, **allowed, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is told of single requests."""


def server_of(shown: WatchedPage, port: int) -> _Server:
    """Listen on this machine alone; 0 is any port that is free.

    Raises:
        UsageError: the port cannot be had.
    """
    answers = type("Answers", (_Answers,), {"shown": shown})
    try:
        server = _Server((LOOPBACK, port), answers)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise UsageError(f"--port {port} {reason}. Choose another one, or 0 for any that is free.") from error
    answers.port = server.port
    return server


def watch(run: Run, file: Path, port: int, *, against: Run | None, opened: bool) -> None:
    """Serve the page until Ctrl-C.

    Args:
        run: that may be growing.
        file: where its page is on disk.
        port: to listen on.
        against: with which it is compared.
        opened: in a browser, too.
    """
    shown = WatchedPage(run, file, against)
    with server_of(shown, port) as server:
        address = f"http://{LOOPBACK}:{server.port}/"
        sys.stderr.write(f"{run.path} at {address}, shown anew as it grows; Ctrl-C ends it.\n")
        if opened:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
