"""A git server for demonstrations and tests: smart HTTP over `git http-backend`.

`python -m job_engine.testing.git_server DIR --port 0` serves every bare repository in
DIR, read-only, on loopback only, and prints its base URL on the first line.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

_ADDRESS: Final = "127.0.0.1"
_MAX_REQUEST: Final = 16 * 2**20
_BACKEND_TIMEOUT_S: Final = 60


class GitServer:
    """Serves the repositories under a directory; a context manager."""

    def __init__(
        self, root: Path, *, port: int = 0, users: Mapping[str, str] | None = None
    ) -> None:
        self.requests: list[str] = []
        """Paths that were asked for, in their order."""
        self.users = users
        """Names and passwords, one of which a request needs; None: no login is needed."""
        server = self

        class Handler(_Handler):
            repositories = root.resolve()

            def accepted(self) -> frozenset[str] | None:
                return _accepted(server.users)

            def seen(self, path: str) -> None:
                server.requests.append(path)

        self._http = ThreadingHTTPServer((_ADDRESS, port), Handler)
        self._thread = threading.Thread(
            target=self._http.serve_forever, name="git-server", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._http.server_address[1])

    @property
    def address(self) -> str:
        """`host:port`, as `allow_private_hosts` wants it."""
        return f"{_ADDRESS}:{self.port}"

    def url(self, name: str) -> str:
        """Return the URL of the repository in the directory `name`."""
        return f"http://{self.address}/{name}"

    def start(self) -> None:
        """Serve in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Handler(BaseHTTPRequestHandler):
    """Hands requests to `git http-backend`, which is a CGI program."""

    protocol_version = "HTTP/1.1"
    repositories: Path

    def accepted(self) -> frozenset[str] | None:
        """Return the accepted values of `Authorization`; None: no login is needed."""
        return None

    def seen(self, path: str) -> None:
        """Note a request."""

    def do_GET(self) -> None:
        """Answer the advertisement of refs."""
        self._serve(b"")

    def do_POST(self) -> None:
        """Answer a fetch."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self._serve(self._chunks())
            return
        length = min(int(self.headers.get("Content-Length") or 0), _MAX_REQUEST)
        self._serve(self.rfile.read(length))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""

    def _chunks(self) -> bytes:
        body = b""
        while (size := int(self.rfile.readline().split(b";")[0], 16)) and len(body) < _MAX_REQUEST:
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _serve(self, body: bytes) -> None:
        self.seen(self.path)
        accepted = self.accepted()
        if accepted is not None and self.headers.get("Authorization") not in accepted:
            self._answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"who are you?")
            return
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            stdout=subprocess.PIPE,
            env=self._environment(),
            timeout=_BACKEND_TIMEOUT_S,
            check=False,
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        status, headers = 200 if done.returncode == 0 else 500, []
        for line in head.decode("latin-1").splitlines():
            name, _, value = line.partition(":")
            if name.lower() == "status":
                status = int(value.split()[0])
            elif value:
                headers.append((name, value.strip()))
        self._answer(status, headers, content)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _environment(self) -> dict[str, str]:
        parts = urlsplit(self.path)
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "GIT_PROJECT_ROOT": str(self.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            # Serve repositories of any owner, which git refuses otherwise.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": self.client_address[0],
        }


def _accepted(users: Mapping[str, str] | None) -> frozenset[str] | None:
    if users is None:
        return None
    pairs = (f"{name}:{password}".encode() for name, password in users.items())
    return frozenset(f"Basic {base64.b64encode(pair).decode()}" for pair in pairs)


def make_repository(source: Path, target: Path) -> str:
    """Make a bare repository at `target` with the files of `source`; return its commit."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            check=True,
            capture_output=True,
            text=True,
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": "/nonexistent",
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_AUTHOR_NAME": "student",
                "GIT_AUTHOR_EMAIL": "student@example.org",
                "GIT_COMMITTER_NAME": "student",
                "GIT_COMMITTER_EMAIL": "student@example.org",
            },
        )
        return done.stdout.strip()

    git("init", "--quiet", "--bare", "--initial-branch=main", str(target))
    tree = ["--git-dir", str(target), "--work-tree", str(source)]
    git(*tree, "add", "--all", "--force", ".")
    git(*tree, "commit", "--quiet", "--message", "Hand in")
    return git("--git-dir", str(target), "rev-parse", "HEAD")


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="directory of bare repositories")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    options = parser.parse_args(arguments)
    server = GitServer(options.directory, port=options.port)
    sys.stdout.write(f"{server.url('')}\n")
    sys.stdout.flush()
    server.start()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
