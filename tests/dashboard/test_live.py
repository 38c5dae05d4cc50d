"""The dashboard during a real run, in a real browser: numbers appear without a reload, and restarts are survived."""

import json
import threading
import time

import pytest

from remind.config import Config
from remind_server.outputs.records import Observer
from remind_server.outputs.run_folder import RunFolder
from remind_server.run_observers import run_observers
from remind_server.simulation.simulate import simulate
from remind_server.store.open import open_store, store_url
from tests.builders.dashboard_runs import SCORES, SETTINGS
from tests.builders.stored_runs import Drill
from tests.dashboard.browser import DESKTOP, serving

pytestmark = pytest.mark.slow

ROUNDS = 4


class Pace(Observer):
    """Notes when each round had ended, and lets a person look at it before the next."""

    def __init__(self) -> None:
        self.ended: dict[int, float] = {}
        self.seen = threading.Semaphore(0)
        self.waits = True

    def look(self) -> None:
        if self.waits:
            assert self.seen.acquire(timeout=300), "nobody opened the page"

    def started(self, start) -> None:
        self.look()

    def round_done(self, record, tensors) -> None:
        self.ended[record.round] = time.time()
        self.look()


@pytest.fixture
def run(tmp_path):
    """A real run in a thread; it starts when told to."""
    folder, pace = tmp_path / "results" / "live-run", Pace()
    config = Config.from_flat(SETTINGS | {"results": str(folder)})

    def work():
        observers = [RunFolder(folder), *run_observers(config, folder, print), pace]
        simulate(config, 3, observers)

    thread = threading.Thread(target=work, daemon=True)
    yield folder, pace, thread
    pace.waits = False
    pace.seen.release()
    if thread.ident is not None:
        thread.join(60)


def test_a_run_is_followed_without_a_reload(run, visit, screenshots, monkeypatch):
    monkeypatch.delenv("REMIND_STORE", raising=False)
    folder, pace, thread = run
    with serving(folder.parent) as server:
        page = visit(server)
        assert "No runs yet" in page.inner_text("main")
        page.wait_for_selector("#live[data-state=on]")
        thread.start()
        with page.expect_navigation():
            page.click("a:has-text('live-run')")
        page.evaluate("window.neverReloaded = true")
        pace.seen.release()
        delays = []
        for round_ in range(1, ROUNDS + 1):
            page.get_by_text(f"round {round_} of {ROUNDS}", exact=True).wait_for()
            delays.append(time.time() - pace.ended[round_])
            page.wait_for_selector(f"html[data-ready='{round_}']", state="attached")
            if round_ == 2:
                page.screenshot(path=screenshots / "live-round-2.png", full_page=True)
            pace.seen.release()  # so far the next round has not begun: what brought this one is news of its own
        page.wait_for_selector(".badge.finished")
        thread.join(60)
        print("\nseconds from a round's end to the page: " + ", ".join(f"{delay:.2f}" for delay in delays))
        assert page.evaluate("window.neverReloaded")
        page.screenshot(path=screenshots / "live-finished.png", full_page=True)
        page.goto(f"{page.url}?show=all")
        page.wait_for_selector("html[data-ready]", state="attached")
        page.evaluate("document.querySelectorAll('section').forEach(s => { s.style.contentVisibility = 'visible'; })")
        read_like_a_person(page, folder)


def read_like_a_person(page, folder):
    """The numbers on the page are those of the run's result files."""
    final = {(r["site"], r["group"]): r for r in json.loads((folder / "final.json").read_text())}
    texts = {
        row.locator("th").inner_text().replace("tail", "").strip(): [
            c.split("\n")[0] for c in row.locator("td").all_inner_texts()
        ]
        for row in page.locator("#groups tbody tr[data-group]").all()
    }
    assert set(texts) == {group for site, group in final if site == "all"} - {"all"}
    for group, cells in texts.items():
        row = final["all", group]
        assert cells[2] == str(row["n"])
        assert cells[4:8] == ["–" if row[s] is None else f"{row[s]:.3f}" for s in SCORES]
    tiles = page.locator("#groups .tile dd b").all_inner_texts()
    assert tiles[0] == str(final["all", "all"]["n"])
    assert tiles[4] == f"{final['all', 'all']['auroc']:.3f}"
    sites = page.locator("#matrix thead .name").all_inner_texts()
    for line in page.locator("#matrix tbody tr").all():
        group = name_of(line)
        for site, cell in zip(sites, line.locator("td").all_inner_texts(), strict=True):
            row = final.get((site, group), {"n": 0})
            expected = ["–" if row["auroc"] is None else f"{row['auroc']:.2f}", str(row["n"])] if row["n"] else ["0"]
            assert cell.split() == [part for part in expected if part]


def name_of(row):
    return row.locator("th").inner_text().replace("tail", "").strip()


def test_answers_of_a_round_come_in_and_only_they_are_fetched(visit, tmp_path, screenshots):
    engine = open_store(store_url(tmp_path))
    drill = Drill(engine, tmp_path / "run", {name: {1: 30, 3: 20} for name in ("Basel", "Chur", "Davos")}).start()
    drill.round()
    drill.open_round()
    with serving(tmp_path) as server:
        page = visit(server, "/runs/1")
        page.wait_for_selector("html[data-ready]", state="attached")
        page.wait_for_selector("#live[data-state=on]")
        page.click("#sites-summary")
        asked = []
        page.on("request", lambda request: asked.append(request.url.removeprefix(server.root)))
        assert "Waiting for Basel" in page.inner_text("#under-way")
        drill.observer.answer_taken("Basel", None)
        page.get_by_text("Waiting for Chur").wait_for()
        drill.observer.answer_taken("Chur", "refused: busy")
        page.get_by_text("its answer does not count: refused: busy").wait_for()
        rows = page.locator("#sites-scroll tbody tr").all()
        states = {row.locator("th").inner_text(): row.locator("td").last.inner_text() for row in rows}
        assert states == {"Basel": "answered", "Chur": "does not count", "Davos": "awaited"}
        page.screenshot(path=screenshots / "live-answers.png")
        assert set(asked) == {"/runs/1/health"}
        drill.round({"Chur": "refused: busy"})
        page.get_by_role("heading", name="Missing in round 2").wait_for()
        page.wait_for_selector("html[data-ready='2']", state="attached")
        assert "/runs/1" in asked
        assert not page.locator("#under-way").count()
    drill.finish()
    engine.dispose()


def test_everything_is_reached_by_keyboard(run, visit, screenshots, monkeypatch):
    monkeypatch.delenv("REMIND_STORE", raising=False)
    folder, pace, thread = run
    pace.waits = False
    thread.run()
    with serving(folder.parent) as server:
        page = visit(server, "/runs/1?show=all", DESKTOP)
        page.wait_for_selector("html[data-ready]", state="attached")
        reached = []
        for _ in range(200):
            page.keyboard.press("Tab")
            seen = page.evaluate(
                "(e => [e.id || e.textContent.trim(), getComputedStyle(e).outlineStyle])(document.activeElement)"
            )
            assert seen[1] != "none" or seen[0].startswith("federated"), f"{seen[0]}: no focus to be seen"
            reached.append(seen[0])
            if "Settings" in seen[0]:
                break
        wanted = {"Skip to content", "Runs", "Sign out", "sites-summary", "on-validation", "groups-scroll", "by-auroc"}
        wanted |= {"chart-1", "experts-scroll", "score-accuracy", "matrix-scroll", "rounds-scroll"}
        wanted |= {"Settings of the run"}
        assert wanted <= set(reached)
        page.keyboard.press("Enter")
        assert page.locator(".settings").is_visible()
        page.focus("#by-auroc")
        with page.expect_navigation(url="**by=auroc**"):
            page.keyboard.press("Enter")
        page.wait_for_selector("html[data-ready]", state="attached")  # the new document's curves are drawn
        assert page.locator("th[aria-sort=ascending]").inner_text().startswith("AUROC")
        page.emulate_media(media="print")
        for shown in ("#groups table", "#experts table", "#matrix table", "#rounds table", "#curves canvas"):
            assert page.locator(shown).first.is_visible()
        assert not page.locator("header").is_visible()
        page.screenshot(path=screenshots / "print.png", full_page=True)


def test_an_open_page_survives_a_restart_of_the_dashboard(run, visit, tmp_path, monkeypatch):
    monkeypatch.delenv("REMIND_STORE", raising=False)
    folder, pace, thread = run
    pace.waits = False
    with serving(folder.parent, "--token-file", str(tmp_path / "token")) as server:
        page = visit(server)
        page.wait_for_selector("#live[data-state=on]")
        page.evaluate("window.neverReloaded = true")
        server.stop()
        page.wait_for_selector("#live[data-state=lost]")
        thread.start()
        while not (folder / "rounds.jsonl").exists():
            thread.join(0.05)
            assert thread.is_alive() or (folder / "rounds.jsonl").exists()
        server.start(server.port)
        page.wait_for_selector("#live[data-state=on]")
        page.get_by_text("live-run").wait_for()
        assert page.evaluate("window.neverReloaded")
        thread.join(60)


def test_without_a_lasting_token_a_restart_signs_out(visit, tmp_path):
    with serving(tmp_path) as server:
        page = visit(server)
        page.wait_for_selector("#live[data-state=on]")
        server.stop()
        server.start(server.port)
        page.get_by_text("signed out").wait_for()
        visit.problems.clear()  # the browser's console notes the refusal
