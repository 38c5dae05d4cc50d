"""A run store that version 0.1.0 wrote, with a finished run and one that was killed, is taken over by this version.

`saved/runs-0.1.0.sql` is the dump of its `runs.db`, made with that version's code and `remind simulate`; its folders
were renamed.
"""

import contextlib
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fastapi.testclient import TestClient

from remind.web.access import Access
from remind_server.dashboard.app import dashboard_app
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.views.groups import group_table
from remind_server.store.open import open_store, store_url
from remind_server.store.schema import Base
from tests.builders.stored_runs import Drill
from tests.dashboard.conftest import TOKEN

SAVED = Path(__file__).parent / "saved" / "runs-0.1.0.sql"


@pytest.fixture
def store(tmp_path):
    (tmp_path / "results").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "results" / "runs.db")) as db:
        db.executescript(SAVED.read_text())
        assert db.execute("select version_num from alembic_version").fetchone() == ("0002",)
        db.execute("update runs set heard = heard - 1e6")
        db.commit()
    engine = open_store(store_url(tmp_path / "results"))
    yield engine
    Drill.end_all()
    engine.dispose()


def before(query):
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SAVED.read_text())
        return db.execute(query).fetchall()


def test_it_has_the_tables_of_this_version(store):
    with store.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_its_runs_are_there_with_their_numbers(store):
    reader = Reader(store)
    assert {run.name: (run.status, run.round) for run in reader.runs()}["run"] == ("finished", 2)
    assert {run.name: run.status for run in reader.runs()}["killed"] == "failed", "nobody writes to it"
    for number, loss, n in before(
        "select number, loss, n from cells join groups g on g.run_id = cells.run_id and "
        "g.number = cells.\"group\" where cells.run_id = 1 and number > 0 and patients = 'test' and site = 0"
    ):
        (row,) = [row for row in group_table(reader, 1).rows if row.number == number]
        assert (row.scores.n, row.scores.loss) == (n, pytest.approx(loss))


def test_its_pages_can_be_read(store):
    client = TestClient(dashboard_app(store, Access(token=TOKEN)), headers={"authorization": f"Bearer {TOKEN}"})
    for page in ("/", "/runs/1", "/runs/2", "/runs/1/rounds.csv", "/runs/1/matrix.csv", "/metrics"):
        assert client.get(page).status_code == 200, page


def test_a_new_run_goes_beside_them(store, tmp_path):
    Drill(store, tmp_path / "results" / "new", {"Basel": {1: 30}}).start().round()
    assert sorted(run.id for run in Reader(store).runs()) == [1, 2, 3]
