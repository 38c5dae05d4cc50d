"""Four hospitals like uci_heart4, three with a minimum of ten: withheld, undefined and zero look different."""

import csv
import io
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.config import Config as AlembicConfig

from remind.data.cohort.cohort import TRAIN
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.views.groups import group_table
from remind_server.rounds.strategy import FedRemind
from remind_server.sinks.scalars import final_scalars, round_scalars
from remind_server.store import observer as observing
from remind_server.store.observer import StoreObserver
from remind_server.store.open import open_store, store_url
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site
from tests.builders.suppressed import Suppressed
from tests.dashboard.browser import serving
from tests.dashboard.html import group_name

A, AB, AC, BC = "a", "a+b", "a+c", "b+c"
# Group → patients; half train, a quarter are tested. Switzerland trains on three groups and can tell of no patient.
MIXES = {
    "cleveland": {7: 120},
    "hungary": {3: 80, 1: 40},
    "switzerland": {7: 36, 3: 36, 5: 24},
    "va": {7: 80, 6: 8},  # no minimum there
}
ONE_CLASS, NOBODY, UNKNOWN = A, BC, AC  # hungary's only class; va tests none; only switzerland has any


class AllButOne(Suppressed):
    """The last site has no minimum."""

    released = (1, 3, 5, 7)

    def _work(self, message):
        last = message.metadata.dst_node_id == list(self._contexts)[-1]
        return SiteGrid._work(self, message) if last else super()._work(message)


def patients(name, seed):
    mix = MIXES[name]
    group_N = np.repeat(list(mix), list(mix.values()))
    made = cohort(group_N.tolist(), seed)
    if name == "hungary":
        return replace(made, label_N=np.where(group_N == 1, 0, made.label_N))
    if name == "va":
        return replace(made, split_N=np.where(group_N == 6, TRAIN, made.split_N).astype(np.int8))
    return made


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Folder of the results with the store in it, and what the run said."""
    folder = tmp_path_factory.mktemp("results")
    engine, recorder = open_store(store_url(folder)), Recorder()
    config = settings({"train.routing-rounds": 0})
    sites = [site(name, patients(name, seed), config, folder / "sites") for seed, name in enumerate(MIXES)]
    store = StoreObserver(engine, folder / "run")
    FedRemind(config, [recorder, store]).run(AllButOne(sites))
    return folder, recorder


@pytest.fixture
def engine(told):
    """In place of the empty store: `client` and `client_of` look at this run."""
    engine = open_store(store_url(told[0]))
    yield engine
    engine.dispose()


def rows(client, on):
    return {row["name"]: row for row in client.get("/api/runs/1/groups", params={"on": on}).json()["rows"]}


@pytest.mark.parametrize("on", ["validation", "test"])
def test_json(client, on):
    found = {name: row["scores"] for name, row in rows(client, on).items()}
    nothing = (None, True, True, 1, None)
    keys = ("n", "suppressed", "withheld", "sites_withholding", "auroc")
    assert tuple(found[UNKNOWN][key] for key in keys) == nothing
    assert tuple(found[NOBODY][key] for key in keys) == (0, False, False, 0, None)
    assert tuple(found[ONE_CLASS][key] for key in keys) == (10, False, False, 0, None)
    assert tuple(found[AB][key] for key in keys[:4]) == (20, False, False, 1)
    assert found[ONE_CLASS]["accuracy"] is not None
    overall = client.get("/api/runs/1", params={"on": on}).json()["overall"]
    assert (overall["n"], overall["sites_withholding"]) == (30 + 20 + 10 + 20, 3)


def test_matrix_and_curves(client):
    matrix = client.get("/api/runs/1/matrix").json()
    column = matrix["sites"].index("switzerland")
    hidden = {matrix["groups"][i] for i, j in matrix["suppressed"] if j == column}
    assert hidden == {matrix["groups"][i] for i, j in matrix["withheld"]} == {"a+b+c", AB, UNKNOWN}
    assert {matrix["n"][i][column] for i, name in enumerate(matrix["groups"]) if name not in hidden} == {0}
    numbers = {name: row["number"] for name, row in rows(client, "validation").items()}
    asked = {"groups": f"{numbers[UNKNOWN]},{numbers[NOBODY]}"}
    curves = {c["name"]: c for c in client.get("/api/runs/1/curves", params=asked).json()["curves"]}
    assert (curves[UNKNOWN]["n"], curves[UNKNOWN]["suppressed"], curves[UNKNOWN]["withheld"]) == ([None], [0], [0])
    assert (curves[NOBODY]["n"], curves[NOBODY]["suppressed"]) == ([0], [])


def lines(client, path, *key):
    found = csv.DictReader(io.StringIO(client.get(path).text))
    return {tuple(row[k] for k in key): row for row in found}


def test_csv(client):
    found = lines(client, "/runs/1/groups.csv", "group")
    assert [found[name,]["n"] for name in (UNKNOWN, NOBODY, ONE_CLASS)] == ["withheld", "0", "10"]
    assert [found[name,]["sites_withholding"] for name in (UNKNOWN, NOBODY, AB)] == ["1", "0", "1"]
    assert found[ONE_CLASS,]["auroc"] == "" != found[ONE_CLASS,]["accuracy"]
    matrix = lines(client, "/runs/1/matrix.csv", "site", "group")
    assert matrix["switzerland", "a+b+c"]["n"] == matrix["all", UNKNOWN]["n"] == "withheld"
    assert matrix["switzerland", "all"]["n"] == "withheld", "nothing of that hospital is known"
    assert ("hungary", "a+b+c") not in matrix
    curve = lines(client, "/runs/1/curves.csv", "round", "group")
    assert [curve["1", name]["n"] for name in (UNKNOWN, NOBODY)] == ["withheld", "0"]
    both = lines(client, "/compare.csv?first=1&second=1", "group")
    assert both[UNKNOWN,]["n_1"] == "withheld"


def test_metrics(client):
    text = client.get("/metrics").text

    def value(name, group):
        found = re.findall(rf'^{name}{{group="{re.escape(group)}",.*}} (.*)$', text, re.MULTILINE)
        return float(found[0]) if found else None

    assert [value("remind_group_patients", name) for name in (UNKNOWN, NOBODY, ONE_CLASS)] == [None, 0, 10]
    assert [value("remind_group_suppressed", name) for name in (UNKNOWN, NOBODY, ONE_CLASS)] == [1, 0, 0]
    assert [value("remind_group_withholding_sites", name) for name in (UNKNOWN, NOBODY, AB)] == [1, 0, 1]


@pytest.mark.parametrize("min_count", [0, 10])
def test_the_page_of_the_run(client_of, min_count):
    client = client_of(min_count)
    html = client.get("/runs/1", params={"show": "all"}, headers={"accept": "text/html"}).text
    for words in ("<b>withheld</b>:", "<b>0</b>:", "<b>–</b>:"):
        assert words in html, "each word is explained"
    row = {
        group_name(name): re.findall(r'<td class="num[^>]*>(.*?)</td>', cells, re.DOTALL)
        for name, cells in re.findall(r'data-group="\d+">.*?<th[^>]*>(.*?)</th>(.*?)</tr>', html, re.DOTALL)
    }
    assert row[UNKNOWN][1] == "withheld"
    assert set(row[UNKNOWN][2:9]) == {"·"}
    assert row[NOBODY][1].strip() == "0"
    assert row[NOBODY][6].strip() == "–"
    if not min_count:
        assert "+ 1 withheld" in row[AB][1]
        assert row[ONE_CLASS][1].strip() == "10"
        assert row[ONE_CLASS][6].strip() == "–" != row[ONE_CLASS][3].strip()
    compared = client.get("/compare?run=1&run=1", headers={"accept": "text/html"})
    assert '<td class="num gone">withheld</td>' in compared.text


def test_sinks(told):
    _, recorder = told
    found = final_scalars(recorder.result)
    assert f"test/n/{UNKNOWN}" not in found
    assert (found[f"test/withheld/{UNKNOWN}"], found[f"test/n/{NOBODY}"]) == (1, 0)
    assert (found[f"test/n/{AB}"], found[f"test/withheld/{AB}"]) == (20, 1)
    assert "test_at_site/n/switzerland" not in found
    assert found["test_at_site/withheld/switzerland"] == 3
    found = round_scalars(recorder.rounds[0], recorder.start.schema)
    assert f"validation/n/{UNKNOWN}" not in found
    assert (found[f"validation/withheld/{UNKNOWN}"], found[f"validation/n/{NOBODY}"]) == (1, 0)
    assert f"validation/withheld/{NOBODY}" not in found


def test_a_store_of_before_is_brought_up_to_date(told):
    """A saved database of the version before: its runs are as they were, and the next one tells."""
    config = AlembicConfig(attributes={})
    config.set_main_option("script_location", str(Path(observing.__file__).parent / "migrations"))
    saved = store_url(told[0], str(told[0] / "saved.db"))
    with closing(sqlite3.connect(told[0] / "runs.db")) as now, closing(sqlite3.connect(saved.database)) as copy:
        now.backup(copy)
    old = open_store(saved)
    with old.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0004")
    old.dispose()
    again = open_store(saved)
    found = {row.name: row.scores for row in group_table(Reader(again), 1, "name", "test").rows}
    assert (found[AB].n, found[AB].sites_withholding) == (20, 0)
    assert found[UNKNOWN].n == 0, "as that version showed it"
    again.dispose()


@pytest.mark.slow
def test_in_the_browser(visit, told, screenshots):
    with serving(told[0]) as server:
        page = visit(server, "/runs/1?show=all")
        page.wait_for_selector("html[data-ready]", state="attached")
        row = page.locator("#groups tbody tr").filter(has=page.locator("th", has_text=re.compile(r"^\s*a\+c\b")))
        assert "withheld" in row.inner_text()
        assert page.locator("#legend").is_visible()
        assert "too few patients" in page.inner_text("#legend")
        assert page.locator("#matrix td.gone", has_text="withheld").count() == 3
        page.screenshot(path=screenshots / "withheld.png", full_page=True)
