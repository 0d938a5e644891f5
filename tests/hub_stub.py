"""A hub on this machine: what huggingface_hub asks of the real one, answered from directories.

A repository is a directory of files, or the name of an error that the hub answers with; "org/name@revision" is one of
its other revisions.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILE = re.compile(r"^/((spaces|datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")
INFORMATION = re.compile(r"^/api/(models|datasets)/(?P<name>[^/]+/[^/?]+)(/revision/(?P<revision>[^/?]+))?(\?.*)?$")
TREE = re.compile(r"^/api/(models|datasets)/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/?]+)\?.*$")
STATUS = {"GatedRepo": 403, "RepoNotFound": 404, "RevisionNotFound": 404, "EntryNotFound": 404}


@dataclass
class Hub:
    """Where it listens, what it was asked."""

    endpoint: str
    asked: list[str] = field(default_factory=list)


def _blob(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def hub(repositories: Mapping[str, Path | str]) -> Iterator[Hub]:
    """Serve ``repositories`` on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_POST(self) -> None:
            self.answer(body=True)

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, *, body: bool) -> None:
            served.asked.append(f"{self.command} {self.path}")
            found = FILE.match(self.path) or TREE.match(self.path) or INFORMATION.match(self.path)
            if found is None:
                return self.refuse("EntryNotFound")
            repository, commit = _at(repositories, found["name"], found["revision"] or "main")
            if isinstance(repository, str):
                return self.refuse(repository)
            if found.re is INFORMATION:
                facts = _information(found["name"], repository, commit)
                return self.send(facts, {"Content-Type": "application/json"}, body)
            if found.re is TREE:
                return self.send(_tree(repository), {"Content-Type": "application/json"}, body)
            path = repository / found["file"]
            if not path.is_file():
                return self.refuse("EntryNotFound", commit)
            content = path.read_bytes()
            return self.send(content, {"ETag": f'"{_blob(content)}"', "X-Repo-Commit": commit}, body)

        def send(self, content: bytes, headers: Mapping[str, str], body: bool) -> None:
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def refuse(self, error: str, commit: str = COMMIT) -> None:
            self.send_response(STATUS[error])
            self.send_header("X-Error-Code", error)
            self.send_header("X-Error-Message", error)
            if error == "EntryNotFound":
                self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def commit_of(name: str, revision: str = "main") -> str:
    """The commit that a revision means."""
    return COMMIT if revision == "main" else hashlib.sha1(f"{name}@{revision}".encode()).hexdigest()


def _at(repositories: Mapping[str, Path | str], name: str, revision: str) -> tuple[Path | str, str]:
    for key, repository in repositories.items():
        own, _, other = key.partition("@")
        commit = commit_of(name, other or "main")
        if own == name and (isinstance(repository, str) or revision in (other or "main", commit)):
            return repository, commit
    return "RevisionNotFound" if name in {key.partition("@")[0] for key in repositories} else "RepoNotFound", ""


def _tree(repository: Path) -> bytes:
    entries = [
        {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40}
        | {"lfs": {"oid": _blob(path.read_bytes()), "size": path.stat().st_size, "pointerSize": 1}}
        for path in sorted(repository.iterdir())
    ]
    return json.dumps(entries).encode()


def _information(name: str, repository: Path, commit: str) -> bytes:
    siblings = [
        {"rfilename": path.name, "size": path.stat().st_size, "blobId": "0" * 40}
        | ({"lfs": {"sha256": _blob(path.read_bytes()), "size": path.stat().st_size, "pointerSize": 1}})
        for path in sorted(repository.iterdir())
    ]
    facts = {"id": name, "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0, "likes": 0}
    return json.dumps(facts).encode()
