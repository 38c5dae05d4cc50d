"""The dashboard as a separate process, and a Chromium that opens it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 90_000  # ms that an element or a page may take on a busy machine
DESKTOP, PHONE = {"width": 1280, "height": 720}, {"width": 390, "height": 844}


class Server:
    """``remind dashboard`` over the store in a folder; `url` signs in."""

    def __init__(self, results: Path, *options: str) -> None:
        self.results, self.options = results, options
        self.start()

    def start(self, port: int = 0) -> None:
        self.results.mkdir(parents=True, exist_ok=True)  # a folder that is named must be there
        command = [sys.executable, "-m", "remind.cli", "dashboard", "--results", str(self.results), "--port", str(port)]
        command += ["--min-count", "1", *self.options]
        environment = {k: v for k, v in os.environ.items() if k != "REMIND_STORE"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        said = []
        while not said or not said[-1].startswith("open "):
            said.append(self.process.stdout.readline())
            assert said[-1], f"the dashboard did not start: {said}"
        self.url = said[-1].split()[1]
        self.root = self.url.split("/sign-in")[0]
        self.port = int(self.root.rsplit(":", 1)[1])
        self.token = self.url.split("token=")[1]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()


@contextmanager
def serving(results: Path, *options: str) -> Iterator[Server]:
    server = Server(results, *options)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium; without it these tests are skipped, with the reason.

    It ends with its file: Playwright keeps an event loop running in this thread, and none can be started beside it.
    """
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: install Debian's package chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory):
    """Folder of the screenshots; REMIND_SCREENSHOTS names one that lasts."""
    folder = Path(os.environ.get("REMIND_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    print(f"\nscreenshots: {folder}")


@pytest.fixture
def visit(chromium):
    """Open a signed-in page of a server; errors of its scripts fail the test (a server that is gone does not)."""
    contexts, problems = [], []

    def open_page(server: Server, path: str = "/", viewport: dict = DESKTOP, scheme: str = "light"):
        context = chromium.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" and "net::" not in m.text else None)
        page.goto(server.url)
        page.wait_for_url(f"{server.root}/")
        if path != "/":
            page.goto(server.root + path)
        return page

    setattr(open_page, "problems", problems)  # noqa: B010  # tests look at them
    yield open_page
    for context in contexts:
        context.close()
    assert not problems, problems
