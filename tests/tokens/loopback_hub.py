"""A model hub on the loopback interface: what huggingface_hub asks for, and every way in which a hub may refuse.

It answers as huggingface.co does, as far as the client can tell: HEAD and GET of ``/REPO/resolve/REVISION/FILE``
with commit, ETag, size and ranges; large files are redirected to a store of another origin, which must never see a
token; refusals carry X-Error-Code. https://huggingface.co/docs/huggingface_hub documents the client's side.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

GOOD_TOKEN = "hf_" + "GoodTokenOfALoopbackHub"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """What one repository holds, and who may read it; `access` is "open", "gated" or "private"."""

    files: dict[str, bytes]
    access: str = "open"
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    granted: bool = False


@dataclass
class LoopbackHub:
    """The hub: change its fields to make it misbehave; `requests` tells what it was asked.

    Attributes
    ----------
    repositories
        By repository id.
    requests
        (method, path, range, authorization) of each request so far; paths of the store begin with "/blobs/".
    cut_after
        Break the connection after so many bytes of a file, as often as `cuts` says.
    reset
        Break it by a reset, not by an orderly end.
    wrong_bytes
        Send other bytes than the ETag says, of the same length.
    pretended_size
        State this size in answers to HEAD.
    status
        Answer every request with this status.
    sent
        Bytes of content sent so far.
    user_agents
        What clients said of themselves.
    """

    repositories: dict[str, Repository]
    endpoint: str = ""
    store: str = ""
    requests: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    cut_after: int | None = None
    cuts: int = 0
    reset: bool = False
    wrong_bytes: bool = False
    pretended_size: int | None = None
    status: int | None = None
    sent: int = 0
    user_agents: set[str] = field(default_factory=set)

    def gets(self) -> list[tuple[str, str, str | None, str | None]]:
        """Return the requests that fetched content."""
        return [request for request in self.requests if request[0] == "GET"]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _hub_handler(hub: LoopbackHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            authorization = self.headers.get("Authorization")
            hub.requests.append((self.command, self.path, self.headers.get("Range"), authorization))
            hub.user_agents.add(self.headers.get("User-Agent", ""))
            path = urlsplit(self.path).path
            if hub.status is not None:
                self._refuse(hub.status, None, "Busy")
            elif path.startswith("/blobs/"):
                self._send_blob(path.removeprefix("/blobs/"))
            else:
                self._resolve(path, authorization)

        def _resolve(self, path: str, authorization: str | None) -> None:
            repo_id, _, rest = path.strip("/").partition("/resolve/")
            revision, _, filename = rest.partition("/")
            token = None if authorization is None else authorization.removeprefix("Bearer ")
            repository = hub.repositories.get(repo_id)
            if token not in (None, GOOD_TOKEN):
                self._refuse(401, None, "Invalid credentials in Authorization header")
            elif repository is None or (repository.access == "private" and token is None):
                self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
            elif repository.access == "forbidden":
                self._refuse(403, None, f"Your token {token} lacks a permission")
            elif repository.access == "gated" and token is None:
                self._refuse(401, "GatedRepo", "Access to the model is restricted. Please log in.")
            elif repository.access == "gated" and not repository.granted:
                self._refuse(403, "GatedRepo", "Access to the model is restricted; you are not in the authorized list.")
            elif (commit := repository.revisions.get(revision, revision)) not in repository.revisions.values():
                self._refuse(404, "RevisionNotFound", "Invalid rev id")
            elif filename not in repository.files:
                self._refuse(404, "EntryNotFound", "Entry not found", commit)
            else:
                self._redirect(repository.files[filename], commit)

        def _redirect(self, content: bytes, commit: str) -> None:
            digest = sha256(content)
            self.send_response(302)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{digest}"')
            self.send_header("X-Linked-ETag", f'"{digest}"')
            self.send_header("X-Linked-Size", str(hub.pretended_size or len(content)))
            self.send_header("Location", f"{hub.store}/blobs/{digest}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send_blob(self, digest: str) -> None:
            contents = [one for repository in hub.repositories.values() for one in repository.files.values()]
            content = next(one for one in contents if sha256(one) == digest)
            if hub.wrong_bytes:
                content = bytes(len(content))
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", f'"{digest}"')
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if self.command == "HEAD":
                return
            part = content[start:]
            if hub.cut_after is not None and hub.cuts > 0:
                hub.cuts -= 1
                part = part[: hub.cut_after]
                self.close_connection = True
            self.wfile.write(part)
            self.wfile.flush()
            hub.sent += len(part)
            if self.close_connection and hub.reset:
                # no lingering: the end of the connection is a reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        def _refuse(self, status: int, code: str | None, message: str, commit: str | None = None) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            if commit:
                self.send_header("X-Repo-Commit", commit)
            self.send_header("X-Error-Message", message)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


@contextmanager
def serving(repositories: dict[str, Repository]) -> Iterator[LoopbackHub]:
    """Run a hub and its store on two free ports of the loopback interface."""
    hub = LoopbackHub(repositories)
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _hub_handler(hub)) for _ in range(2)]
    hub.endpoint, hub.store = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def point_to(hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make huggingface_hub, in this process, ask the loopback hub and keep its files in `cache`."""
    from huggingface_hub import constants, file_download

    for name in (
        "HF_HUB_OFFLINE",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    changes = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "HF_TOKEN_PATH": str(cache / "no token"),
        "HF_HUB_DISABLE_XET": True,
    }
    for module in (constants, file_download):  # before 1.0 some constants were copied
        for name, value in changes.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


def environment(hub: LoopbackHub, home: Path) -> dict[str, str]:
    """Return the environment of a process that asks the loopback hub, as a user would set it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    proxies = {name for name in inherited if name.lower() in ("http_proxy", "https_proxy", "all_proxy")}
    kept = {name: value for name, value in inherited.items() if name not in proxies}
    return kept | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
