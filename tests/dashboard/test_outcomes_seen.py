"""Pages of runs of every outcome in a browser: the outcome's scores, units and labels are there."""

import re

import numpy as np
import pytest

from remind.metrics.scores import EVERY, scores_of
from remind.outcomes.base import outcomes
from remind.outcomes.multilabel import Multilabel
from remind_server.store.open import open_store, store_url
from tests.builders.stored_runs import Drill, statistics_of
from tests.dashboard.browser import DESKTOP, PHONE, serving

pytestmark = pytest.mark.slow

KINDS = tuple(outcomes())
SITES = {"Basel": {1: 60, 3: 40}, "Chur": {1: 50, 7: 45}, "Davos": {3: 70, 7: 40}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A dashboard over one run of each outcome, in the order of the registry."""
    results = tmp_path_factory.mktemp("results")
    engine = open_store(store_url(results))
    for number, outcome in enumerate(KINDS):
        drill = Drill(engine, results / str(number), SITES, rounds=2, outcome=outcome, experts=0).start()
        drill.round()
        drill.finish()
    Drill.end_all()
    engine.dispose()
    with serving(results) as server:
        yield server


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("outcome", KINDS)
def test_the_page_of_a_run(visit, server, screenshots, outcome, size):
    page = visit(server, f"/runs/{KINDS.index(outcome) + 1}", size)
    page.wait_for_selector("html[data-ready]", state="attached")
    page.evaluate("document.querySelectorAll('section').forEach(s => { s.style.contentVisibility = 'visible'; })")
    page.screenshot(path=str(screenshots / f"outcome-{outcome}-{size['width']}.png"), full_page=True)
    chief = EVERY[outcomes()[outcome].chief].title
    first = page.inner_text("#answer-overall")
    assert re.search(r"\d\.\d{3}", first), "the first score is a number"
    assert chief.lower() in page.inner_text("main").lower()
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, "the page is no wider than the screen"
    shown = page.inner_text("#groups") if size is DESKTOP else ""
    own = statistics_of(outcome, 20, 0)[0]
    for name, score in scores_of(outcome, own.parts).items() if size is DESKTOP else ():
        assert any(word.lower() in shown.lower() for word in (score.column, score.title)), name
    if outcome == "regression":
        assert "(points)" in page.inner_text("main")
    assert (page.locator("#labels table").count() == 1) == (outcome == "multilabel")
    if outcome == "multilabel":
        box = page.locator("#labels table").bounding_box()
        assert box["width"] > 0
        assert box["height"] > 0
        own, _ = outcomes()["multilabel"].made(np.zeros(1), np.random.default_rng(0))
        assert isinstance(own, Multilabel)
        for label in own.labels:
            assert label in page.inner_text("#labels")
