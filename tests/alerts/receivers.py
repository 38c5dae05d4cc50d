"""Receivers of alerts in tests: a real HTTP server on loopback, and a real program that records its input."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Receiver(ThreadingHTTPServer):
    """Answers with `statuses` in turn, the last one for ever; `held` keeps requests waiting until it is set."""

    daemon_threads = True

    def __init__(self, statuses: tuple[int, ...]) -> None:
        self.statuses = list(statuses)
        self.got: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.held = threading.Event()
        self.held.set()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks/secret-path"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.held.wait(600)
        self.server.got.append(json.loads(body))
        self.server.headers.append(dict(self.headers))
        self._answer()

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self._answer()

    def _answer(self) -> None:
        status = self.server.statuses.pop(0) if len(self.server.statuses) > 1 else self.server.statuses[0]
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    server = Receiver(statuses or (200,))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.held.set()
        server.shutdown()
        server.server_close()
        thread.join()


def writer(path: Path, code: str = "") -> tuple[str, ...]:
    """A command that appends its first argument and its standard input to a file, as a line of JSON."""
    program = (
        "import json, sys\n"
        f"line = json.dumps([sys.argv[1], sys.stdin.read()])\nopen({str(path)!r}, 'a').write(line + chr(10))\n{code}"
    )
    return (sys.executable, "-S", "-c", program, "{subject}")


def written(path: Path) -> list[list[str]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
