"""A run like that of nhanes, 93 groups at eight hospitals, in the browser: the main results fit on the first screen.

Under the usual minimum count. Few groups have many patients, and nearly all have one or two.
"""

import re
from urllib.request import Request, urlopen

import pytest

from remind_server.store.open import open_store, store_url
from tests.builders.cohorts import schema
from tests.builders.stored_runs import NAMES, Drill
from tests.dashboard.browser import DESKTOP, PHONE, serving

pytestmark = pytest.mark.slow

LARGE = {127: 240, 255: 230, 253: 110, 63: 100, 21: 50}  # group → patients, of all hospitals
SMALL = [mask for mask in range(3, 200) if mask not in LARGE][:88]
ANSWERS = ("overall", "tail", "group", "site", "missing")


def patients():
    """Hospital → group → patients; a small group is at one or two hospitals."""
    found = {f"Hospital {i}": {mask: max(2, n // 8) for mask, n in LARGE.items()} for i in range(8)}
    for place, mask in enumerate(SMALL):
        for i in {place % 8, (3 * place + 1) % 8}:
            found[f"Hospital {i}"][mask] = 1 + place % 2
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    engine = open_store(store_url(results))
    drill = Drill(engine, results / "nhanes", patients(), rounds=2, share=0.3)
    drill.schema = schema(NAMES[:8], series=())
    drill.start()
    drill.round()
    drill.round({"Hospital 3": "no answer within 600 s"})
    drill.finish()
    with serving(results, "--min-count", "10") as server:
        request = Request(f"{server.root}/api/runs/1/verdict", headers={"authorization": f"Bearer {server.token}"})
        with urlopen(request, timeout=300) as answer:  # deciding what may be shown takes seconds, once
            assert answer.status == 200
        yield server
    Drill.end_all()
    engine.dispose()


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")])
def test_the_first_screen_answers(visit, server, screenshots, size, scheme):
    page = visit(server, "/runs/1", size, scheme)
    page.wait_for_selector("html[data-ready]", state="attached")
    said = {name: page.locator(f"#answer-{name}") for name in ANSWERS}
    for name, place in said.items():
        box = place.bounding_box()
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= size["width"], f"{name}: to be seen without scrolling sideways"
        if size is DESKTOP or name == "overall":
            assert box["y"] + box["height"] <= size["height"], f"{name}: on the first screen"
    number = re.compile(r"0\.\d{3}\s+0\.\d\d–[01]\.\d\d")
    for name in ("overall", "tail", "group", "site"):
        assert number.search(said[name].inner_text()), f"{name} has its interval"
        assert int(re.search(r"(\d+) patients", said[name].inner_text())[1]) >= 30, f"{name} has support"
    assert "Hospital 3" in said["missing"].inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#groups tbody tr[data-group]").count() <= len(LARGE)
    assert page.locator("#small-groups").count() == 1
    page.screenshot(path=screenshots / f"first-screen-{scheme}-{size['width']}.png")
