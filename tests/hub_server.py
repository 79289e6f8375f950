"""A Hub on the loopback interface: as much of its protocol as huggingface_hub needs for a download."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

__all__ = ["Hub", "Repository", "serve"]


@dataclass
class Repository:
    """A repository: the files of every revision, and who may read them.

    Attributes:
        revisions: Files by path, by branch or tag.
        token: Who does not send this token is refused; None for a public repository.
        gated: Who sends no token is told that conditions must be accepted first.
    """

    revisions: dict[str, dict[str, bytes]]
    token: str | None = None
    gated: bool = False

    def commit(self, revision: str) -> str | None:
        """The full commit of a branch, a tag or a commit."""
        commits = {
            name: _digest(json.dumps({path: _digest(data) for path, data in files.items()}).encode())
            for name, files in self.revisions.items()
        }
        return commits.get(revision, revision if revision in commits.values() else None)

    def files(self, commit: str) -> dict[str, bytes]:
        """The files of a commit."""
        return next(files for name, files in self.revisions.items() if self.commit(name) == commit)


@dataclass
class Hub:
    """The server's repositories and its log.

    Attributes:
        repositories: By `owner/name`.
        requests: Method and path of every request, in order.
        ranges: The Range headers that were asked for.
        cut_after: Bytes of each file after which the connection breaks; None for whole files.
        endpoint: The server's address.
        answers: Whether it answers at all, or breaks every connection.
        broken: A file that cannot be read.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    cut_after: int | None = None
    endpoint: str = ""
    answers: bool = True
    broken: str | None = None

    def downloads(self) -> list[str]:
        """Paths of the files whose content was asked for."""
        return [path for method, path in self.requests if method == "GET" and "/resolve/" in path]


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a Hub until the block ends."""
    hub = Hub()

    class Handler(_Handler):
        server_hub = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server_hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the requests are in the Hub's log."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if not self.server_hub.answers:
            self.close_connection = True
            return None
        self.server_hub.requests.append((self.command, path))
        parts = path.strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        parts = parts[2:] if is_api else parts
        repository = self.server_hub.repositories.get("/".join(parts[:2]))
        if repository is None:
            return self._refuse(404, "RepoNotFound", "Repository not found")
        if repository.token is not None and self.headers["Authorization"] != f"Bearer {repository.token}":
            return self._refuse_access(repository)
        return self._api(repository, parts) if is_api else self._file(repository, parts)

    def _refuse_access(self, repository: Repository) -> None:
        if repository.gated:
            return self._refuse(403, "GatedRepo", "Access to this repository is restricted")
        return self._refuse(401, "RepoNotFound", "Invalid credentials")

    def _api(self, repository: Repository, parts: list[str]) -> None:
        """`owner/name/revision/REV` or `owner/name/tree/REV`; without either, the default branch."""
        revision = parts[3] if len(parts) > 3 else "main"
        commit = repository.commit(revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        files = repository.files(commit)
        if parts[2:3] == ["tree"]:
            tree = [
                {"type": "file", "path": path, "oid": _digest(data), "size": len(data)}
                for path, data in files.items()
            ]
            return self._send_json(tree)
        siblings = [{"rfilename": path} for path in files]
        return self._send_json({"id": "/".join(parts[:2]), "sha": commit, "siblings": siblings})

    def _file(self, repository: Repository, parts: list[str]) -> None:
        """`owner/name/resolve/REV/PATH`."""
        commit = repository.commit(parts[3])
        data = None if commit is None else repository.files(commit).get("/".join(parts[4:]))
        if data is None:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        if self.command == "GET" and "/".join(parts[4:]) == self.server_hub.broken:
            return self._refuse(500, "InternalError", "This disk is broken")
        headers = {"ETag": f'"{_digest(data)}"', "X-Repo-Commit": str(commit), "Accept-Ranges": "bytes"}
        return self._send_data(data, headers)

    def _send_data(self, data: bytes, headers: dict[str, str]) -> None:
        requested = self.headers["Range"]
        start = 0
        if requested is not None:
            self.server_hub.ranges.append(requested)
            start = int(requested.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(200 if requested is None else 206, data[start:], headers)

    def _send_json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = self.server_hub.cut_after
        if limit is not None and "ETag" in headers and len(body) > limit:
            body = body[:limit]
            self.close_connection = True
        self.wfile.write(body)
