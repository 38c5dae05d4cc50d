"""Screenshots of each view, in light and dark, on a small screen and a phone."""

import time

import pytest
from sqlalchemy import update

from remind_server.store.open import open_store, store_url, writing
from remind_server.store.schema import Run
from tests.builders.stored_runs import EVIL, Drill, large_run
from tests.dashboard.browser import DESKTOP, PHONE, serving

pytestmark = pytest.mark.slow

SITES = {"Basel": {1: 60, 3: 40}, "Genève": {1: 30, 5: 9}, EVIL: {7: 12, 3: 20}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A store with a run in every state; name → number."""
    results = tmp_path_factory.mktemp("runs")
    engine = open_store(store_url(results))
    numbers = {}

    def drill(name: str, *args, **kwargs) -> Drill:
        made = Drill(engine, results / name, *args, **kwargs)
        numbers[name] = made.observer.run_id
        return made

    drill("waiting", SITES)
    running = drill("running", SITES, 6, refused={"St <b>Anna</b>": "another schema: modality ‘ct’ is missing"}).start()
    for _ in range(4):
        running.round({"Genève": "no answer within 600 s"} if running.done == 3 else None)
    running.open_round()
    for seed, name in enumerate(("first", "second")):
        finished = drill(name, SITES, seed=seed).start()
        for _ in range(finished.rounds):
            finished.round()
        finished.finish()
    one = drill("one-group", {"Basel": {1: 50}}, experts=0).start()
    one.round()
    one.open_round()
    failed = drill("failed", SITES).start()
    failed.round()
    failed.observer.failed("1 valid replies, federation.min-sites asks for 2\n  - Basel: no answer within 600 s")
    stalled = drill("stalled", SITES).start()
    stalled.round()
    stalled.observer.heartbeat.stop()
    with writing(engine).begin() as connection:
        connection.execute(update(Run).where(Run.id == numbers["stalled"]).values(heard=time.time() - 3600))
    yield results, numbers
    Drill.end_all()
    engine.dispose()


@pytest.fixture(scope="module")
def server(runs):
    with serving(runs[0]) as server:
        yield server


def shoot(page, screenshots, name, whole=True):
    if whole:  # a person would have scrolled there
        page.evaluate("document.querySelectorAll('section').forEach(s => { s.style.contentVisibility = 'visible'; })")
    page.screenshot(path=screenshots / f"{name}.png", full_page=whole)


def no_sideways_scroll(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")])
@pytest.mark.parametrize("name", ["running", "first", "one-group", "failed", "stalled", "waiting"])
def test_a_run(visit, server, runs, screenshots, name, size, scheme):
    page = visit(server, f"/runs/{runs[1][name]}", size, scheme)
    page.wait_for_selector("html[data-ready]", state="attached")
    assert name in page.inner_text("h1")
    assert no_sideways_scroll(page)
    assert page.title() != "owned"
    boxes = page.locator("section:visible, .note:visible, .tile:visible, .facts > div:visible, figure:visible")
    assert all(text.strip() for text in boxes.all_text_contents()), "no empty box"
    shown = page.locator("h2, dt, th, figcaption").filter(visible=True)  # the settings of the run are folded
    assert not shown.get_by_text("privacy").count(), "nothing of what is off"
    names = page.locator("#groups tbody th").first
    if names.count():
        page.evaluate("document.getElementById('groups-scroll').scrollLeft = 600")
        assert names.bounding_box()["x"] >= 0, "names stay in sight"
        page.evaluate("document.getElementById('groups-scroll').scrollLeft = 0")
    shoot(page, screenshots, f"run-{name}-{scheme}-{size['width']}")


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")])
def test_runs_and_comparison(visit, server, runs, screenshots, size, scheme):
    page = visit(server, "/", size, scheme)
    assert page.locator("tbody tr").count() == len(runs[1])
    shoot(page, screenshots, f"runs-{scheme}-{size['width']}")
    for name in ("first", "second"):
        page.check(f"#pick-{runs[1][name]}")
    with page.expect_navigation():
        page.click("#compare")
    page.wait_for_selector("html[data-ready]", state="attached")
    assert no_sideways_scroll(page)
    shoot(page, screenshots, f"compare-{scheme}-{size['width']}")


def test_no_runs_yet(visit, tmp_path, screenshots):
    with serving(tmp_path) as server:
        page = visit(server)
        assert "No runs yet" in page.inner_text("main")
        shoot(page, screenshots, "empty")
        with page.expect_navigation():
            page.click("text=Sign out")
        assert "Token" in page.inner_text("main")
        shoot(page, screenshots, "sign-in")
        page.fill("#token", "wrong")
        with page.expect_navigation():
            page.click("main button")
        assert "The token is wrong" in page.inner_text("main")
        visit.problems.clear()  # the browser's console notes the refusal


def test_a_chart_without_values_says_so_until_there_are_some(visit, server, runs):
    page, empty = visit(server), [True]

    def emptied(route):
        answer = route.fetch()
        found = answer.json()
        for curve in found["curves"] if empty[0] else ():
            curve["log_loss"] = [None] * len(curve["log_loss"])
        route.fulfill(response=answer, json=found)

    page.route("**/curves?*", emptied)
    page.goto(f"{server.root}/runs/{runs[1]['first']}")
    page.wait_for_selector("html[data-ready]", state="attached")
    chart = page.locator("[data-chart=log_loss]")
    assert "Not measured, or withheld" in chart.inner_text()
    assert page.locator("[data-chart=auroc] canvas").count() == 1
    empty[0] = False
    page.locator("[data-chart-group]:checked").first.uncheck()
    page.wait_for_selector("[data-chart=log_loss] canvas")
    assert "Not measured" not in chart.inner_text()


def test_without_experts_there_is_no_map(visit, server, runs):
    page = visit(server, f"/runs/{runs[1]['one-group']}")
    page.wait_for_selector("html[data-ready]", state="attached")
    assert not page.locator("#experts *").count()
    assert page.locator("#experts").bounding_box()["height"] == 0
    page.goto(f"{server.root}/runs/{runs[1]['first']}?show=all")
    assert page.locator("#experts .strip[role=img]").count() == 1 + 1 + 4  # legend, everybody, groups


def test_suppressed_cells_look_suppressed(visit, runs, screenshots):
    with serving(runs[0], "--min-count", "25") as server:
        page = visit(server, f"/runs/{runs[1]['running']}?show=all")
        page.wait_for_selector("html[data-ready]", state="attached")
        assert page.locator("#groups td.gone", has_text="withheld").count() >= 2
        assert page.locator("#matrix td.gone").count() >= 2
        shoot(page, screenshots, "run-suppressed")


@pytest.mark.parametrize("show", ["few", "all"])
def test_three_hundred_groups_at_fifty_sites(visit, tmp_path, screenshots, show):
    """How much there is to fetch and to draw has a bound; the time that it takes is printed only."""
    engine = open_store(store_url(tmp_path))
    number = large_run(engine)
    engine.dispose()
    with serving(tmp_path) as server:
        page = visit(server)
        page.goto(f"{server.root}/runs/{number}?show={show}")
        page.wait_for_selector("html[data-ready]", state="attached")
        took = page.evaluate("performance.getEntriesByType('navigation')[0].domInteractive")
        charts = page.evaluate("Math.max(...performance.getEntriesByName('charts drawn').map(e => e.startTime))")
        print(f"\n{show}: interactive after {took:.0f} ms, charts drawn after {charts:.0f} ms")
        sizes = {
            e["name"]: e["decodedBodySize"]
            for e in page.evaluate("performance.getEntriesByType('resource').map(e => e.toJSON())")
            if "/api/" in e["name"] and "events" not in e["name"]
        }
        print(sizes)
        assert len(sizes) == 1  # the curves
        assert max(sizes.values()) < 1_000_000
        nodes = page.evaluate("document.querySelectorAll('*').length")
        lines = page.locator("#curves .uplot .u-legend .u-series").count()
        places = page.locator("#curves [data-chart]").count()
        print(f"{nodes} elements, {lines} lines in {places} charts")
        assert nodes < (20_000 if show == "few" else 80_000)
        assert lines <= places * 8, "rounds, all groups together, and six groups"
        assert no_sideways_scroll(page)
        shoot(page, screenshots, f"large-{show}", whole=False)
        for part in ("#experts", "#matrix"):
            page.locator(part).scroll_into_view_if_needed()
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            shoot(page, screenshots, f"large-{show}-{part[1:]}", whole=False)
