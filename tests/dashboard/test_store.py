"""The run store: created by its migrations, written round by round, and never able to stop a run."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from remind.errors import UserError
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.views.experts import expert_map
from remind_server.dashboard.views.groups import group_table
from remind_server.dashboard.views.report import run_report
from remind_server.outputs.records import RunStart
from remind_server.run_observers import run_observers
from remind_server.store import run_rows
from remind_server.store.observer import StoreObserver
from remind_server.store.open import open_store, shown, store_url
from remind_server.store.rows import cell_rows
from remind_server.store.schema import LOST, Base, Cell, RoundGroup, Run, tables_by_round
from tests.builders.configs import settings
from tests.builders.stored_runs import Drill
from tests.machine import until

SITES = {"Basel": {1: 30, 3: 20}, "Chur": {3: 10}}


def test_migrations_make_the_tables_the_code_uses(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []


def test_a_store_opens_again_with_what_is_in_it(engine, tmp_path):
    Drill(engine, tmp_path / "results" / "run", SITES).start().round()
    again = open_store(engine.url)
    assert [run.round for run in Reader(again).runs()] == [1]


@pytest.mark.parametrize("expected", [("Basel", "Chur", "Davos"), ("Basel", "Chur"), ()])
def test_a_run_without_an_enrolled_hospital_is_incomplete(engine, tmp_path, expected):
    drill = Drill(engine, tmp_path / "results" / "run", SITES, rounds=2)
    drill.observer.started(RunStart(drill.config, drill.schema, SITES, drill.counts, {}, expected))
    away = {"Davos": "never connected"} if "Davos" in expected else {}
    for _ in range(2):
        drill.round(away)
    drill.finish()
    (run,) = Reader(engine).runs()
    assert (run.status, run.reason) == (("incomplete", "Davos: never connected") if away else ("finished", ""))


def test_a_store_of_a_newer_version_is_refused(engine):
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UserError, match="another version"):
        open_store(engine.url)


def test_keys_begin_with_the_run(engine):
    """A run's rows lie together, so reading one run does not read all of them."""
    with engine.connect() as connection:
        for table in ("round_groups", "cells"):
            plan = connection.execute(text(f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE run_id = 1")).all()
            assert "SEARCH" in plan[0][-1]


def test_what_a_run_says_can_be_read(engine, tmp_path):
    drill = Drill(engine, tmp_path / "results" / "run", SITES, refused={"Davos": "no training patients"})
    reader = Reader(engine)
    assert reader.runs()[0].status == "waiting"
    drill.start()
    drill.open_round(deadline=100)
    opened = reader.state(1)
    assert opened.status == "running"
    assert opened.round_closes - opened.round_began == pytest.approx(100)
    record = drill.round({"Chur": "no answer within 600 s"})
    report = run_report(reader, 1)
    assert report.run.round == 1
    assert [site.name for site in report.answered] == ["Basel"]
    assert [(site.name, site.absent) for site in report.missing] == [("Chur", "no answer within 600 s")]
    assert [(site.name, site.refused) for site in report.refused] == [("Davos", "no training patients")]
    assert report.overall.n == sum(s.count for s in record.validation.values())
    drill.round()
    assert not run_report(Reader(engine), 1).missing
    drill.finish()
    ended = run_report(reader, 1).run
    assert (ended.status, ended.reason) == ("incomplete", "Davos: no training patients")
    assert run_report(reader, 1).patients == "test"
    assert {row.weight for row in group_table(reader, 1).rows} == {0.5}


def test_a_store_of_the_first_version_is_brought_up_to_date(engine, tmp_path):
    drill = Drill(engine, tmp_path / "results" / "run", SITES).start()
    drill.round()
    drill.observer.heartbeat.stop()  # else it writes while columns go
    config = AlembicConfig(attributes={})
    config.set_main_option("script_location", str(Path(str(run_rows.__file__)).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    again = open_store(engine.url)
    with again.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    reader = Reader(again)
    assert reader.state(1).round == 1
    assert expert_map(reader, group_table(reader, 1)).rows == [], "runs of before have no map, and no empty one"


def test_who_has_answered_in_the_round_under_way(engine, tmp_path, client, monkeypatch):
    sites = {name: {1: 20} for name in ("Basel", "Chur", "Davos", "Genf")}
    drill = Drill(engine, tmp_path / "results" / "run", sites).start()
    reader = Reader(engine)

    def now():
        report = run_report(reader, 1)
        return {site.name: site.answer for site in report.sites}, report.run.answers

    assert now() == (dict.fromkeys(sites), 0)
    drill.open_round()
    assert now() == ({"Basel": "awaited", "Chur": "in line", "Davos": "in line", "Genf": "in line"}, 0)
    before = reader.state(1).change
    drill.observer.answer_taken("Basel", None)
    drill.observer.answer_taken("Chur", "refused: busy")
    assert now() == ({"Basel": "counts", "Chur": "does not count", "Davos": "awaited", "Genf": "in line"}, 2)
    assert [(site.name, site.problem) for site in run_report(reader, 1).not_counting] == [("Chur", "refused: busy")]
    assert reader.state(1).change == before, "the page need not be rendered again for this"
    health = " ".join(client.get("/runs/1/health").text.split())
    assert "Answers are counted in the order of the names. 1 later answer may have arrived already" in health
    assert "not counted yet" in health
    awaited = dict(re.findall(r'^remind_site_awaited{run="1",site="(\w+)"} (.*)$', client.get("/metrics").text, re.M))
    assert awaited == {"Basel": "0.0", "Chur": "0.0", "Davos": "1.0", "Genf": "1.0"}
    with monkeypatch.context() as patch:
        patch.setattr("remind_server.dashboard.run_state.SILENCE", -1.0)
        assert now()[0] == dict.fromkeys(sites), "a run that is gone waits for nobody"
    drill.round({"Chur": "refused: busy"})
    assert now() == (dict.fromkeys(sites), 0)
    assert [site.name for site in run_report(reader, 1).missing] == ["Chur"]
    drill.open_round()
    drill.observer.answer_taken("Basel", None)
    drill.observer.failed("interrupted")
    assert now()[0] == dict.fromkeys(sites), "nobody is waited for any longer"


def test_with_a_quorum_everybody_is_awaited_at_once(engine, tmp_path):
    sites = {name: {1: 20} for name in ("Basel", "Chur", "Davos")}
    changes = {"federation.quorum": 0.5}
    drill = Drill(engine, tmp_path / "results" / "run", sites, changes=changes).start()
    drill.open_round()
    drill.observer.answer_taken("Chur", None)
    found = {site.name: site.answer for site in run_report(Reader(engine), 1).sites}
    assert found == {"Basel": "awaited", "Chur": "counts", "Davos": "awaited"}


def test_each_round_is_there_whole_or_not_at_all(engine, tmp_path, monkeypatch):
    drill = Drill(engine, tmp_path / "results" / "run", SITES).start()
    drill.round()

    def broken(*_):
        raise RuntimeError("killed")

    monkeypatch.setattr(run_rows, "cell_rows", broken)
    with pytest.raises(RuntimeError):
        drill.round()
    with Session(engine) as session:
        assert session.scalar(select(func.max(RoundGroup.round))) == 1
        assert session.scalar(select(func.count()).select_from(Cell)) > 0
        assert session.scalar(select(Run.round)) == 1


def test_a_store_out_of_reach_delays_rounds_and_loses_none(engine, tmp_path, monkeypatch):
    from sqlalchemy.exc import OperationalError

    drill = Drill(engine, tmp_path / "results" / "run", SITES).start()
    real, away = cell_rows, True

    def sometimes(*arguments):
        if away:
            raise OperationalError("INSERT", {}, Exception("server closed the connection"))
        return real(*arguments)

    monkeypatch.setattr(run_rows, "cell_rows", sometimes)
    drill.round()
    drill.open_round()
    drill.observer.answer_taken("Basel", None)  # may be left out
    drill.round()
    assert Reader(engine).state(1).round == 0
    away = False
    drill.round()
    assert Reader(engine).state(1).round == 3
    with Session(engine) as session:
        assert session.scalars(select(RoundGroup.round).where(RoundGroup.group == 0)).all() == [1, 2, 3]


def test_a_run_gives_signs_of_life_and_is_stalled_without(engine, tmp_path, monkeypatch):
    drill = Drill(engine, tmp_path / "results" / "run", SITES).start()
    reader = Reader(engine)
    first = reader.state(1).heard
    until(lambda: reader.state(1).heard != first, "a sign of life", 10)
    drill.observer.heartbeat.stop()
    monkeypatch.setattr("remind_server.dashboard.run_state.SILENCE", -1.0)
    assert reader.state(1).status == "stalled"


def test_a_run_that_was_killed_counts_as_ended_and_the_next_run_writes_that_down(engine, tmp_path):
    drill = Drill(engine, tmp_path / "results" / "run", SITES).start()
    drill.observer.heartbeat.stop()
    silent = time.time() - LOST - 1
    with Session(engine) as session, session.begin():
        session.execute(update(Run).values(heard=silent))
    state = Reader(engine).state(1)
    assert (state.status, state.ended) == ("failed", silent)
    assert "no heartbeat for 10 min" in state.reason
    assert run_report(Reader(engine), 1).left_seconds is None
    Drill(engine, tmp_path / "results" / "other", SITES).start()
    with Session(engine) as session:
        assert session.get(Run, 1).status == "failed"
        assert session.get(Run, 2).status == "running"
    drill.round()
    assert Reader(engine).state(1).status == "running", "a machine that slept continues"


def test_a_failure_is_shown_with_its_reason(engine, tmp_path):
    drill = Drill(engine, tmp_path / "results" / "run", SITES)
    drill.observer.failed("0 site(s) connected")
    state = Reader(engine).state(1)
    assert (state.status, state.reason) == ("failed", "0 site(s) connected")


def test_a_run_goes_on_without_a_store(tmp_path, monkeypatch):
    monkeypatch.setenv("REMIND_STORE", "/dev/null/runs.db")
    said = []
    assert run_observers(settings(), tmp_path / "run", said.append) == []
    assert "will not show up" in said[0]


@pytest.mark.parametrize("given", ["mysql://a:secret@b/c", "::://", "oracle://x"])
def test_a_bad_url_is_one_message_without_its_password(tmp_path, given):
    with pytest.raises(UserError) as error:
        open_store(store_url(tmp_path, given))
    assert "secret" not in str(error.value)


def test_a_database_that_is_not_there_is_one_message(tmp_path):
    with pytest.raises(UserError, match="cannot open") as error:
        open_store(store_url(tmp_path, "postgresql://me:secret@127.0.0.1:1/x?connect_timeout=2"))
    assert "secret" not in str(error.value)


def test_where_the_store_lies(tmp_path, monkeypatch):
    monkeypatch.delenv("REMIND_STORE", raising=False)
    assert shown(store_url(tmp_path)) == str(tmp_path / "runs.db")
    monkeypatch.setenv("REMIND_STORE", "postgresql://me:secret@db/remind")
    assert store_url(tmp_path).drivername == "postgresql+psycopg"
    assert "secret" not in shown(store_url(tmp_path))
    assert shown(store_url(tmp_path, str(tmp_path / "x.db"))) == str(tmp_path / "x.db")


@pytest.mark.slow
def test_postgresql(tmp_path):
    """The same on a PostgreSQL server of this test's own."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries:
        pytest.skip("no PostgreSQL server here: install Debian's package postgresql")
    tools = binaries[-1].parent
    with tempfile.TemporaryDirectory() as folder:
        user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
        if user:
            shutil.chown(folder, "nobody", "nogroup")

        def do(*command) -> None:
            subprocess.run([*user, *command], check=True, stdout=subprocess.DEVNULL, cwd=folder)

        do(tools / "initdb", "-D", f"{folder}/db", "-U", "remind", "-A", "trust")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
        do(tools / "pg_ctl", "-D", f"{folder}/db", "-w", "-o", options, "-l", f"{folder}/log", "start")
        try:
            engine = open_store(store_url(tmp_path, f"postgresql://remind@/postgres?host={folder}"))
            with engine.connect() as connection:
                assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
            drill = Drill(engine, tmp_path / "run", SITES).start()
            record = [drill.round() for _ in range(3)][-1]
            with Session(engine) as session:
                last = session.get(RoundGroup, (1, 0, 3))
                assert last.n == sum(s.count for s in record.validation.values())
            drill.finish()
            reader = Reader(open_store(engine.url))
            assert reader.state(1).status == "finished"
            reader.engine.dispose()
            engine.dispose()
        finally:
            do(tools / "pg_ctl", "-D", f"{folder}/db", "-m", "immediate", "stop")


def test_a_round_that_a_crash_cost_its_checkpoint_is_written_again(engine, tmp_path):
    """The store has the second round, the newest checkpoint the first: a resumed run ends with each round once."""
    drill = Drill(engine, tmp_path / "results" / "run", SITES, rounds=2).start()
    drill.round()
    memory = drill.observer.remember()
    drill.round()
    drill.observer.heartbeat.stop()
    again = Drill(engine, tmp_path / "results" / "run", SITES, rounds=2)
    again.observer.heartbeat.stop()
    again.observer = StoreObserver(engine, tmp_path / "results" / "run", beat=0.2)
    start = RunStart(again.config, again.schema, SITES, again.counts, {})
    again.observer.resumed(start, 1, memory)
    again.done = 1
    again.round()
    again.finish()
    run = Reader(engine).state(1)
    assert (run.status, run.round) == ("finished", 2)
    for table in tables_by_round():
        with Session(engine) as session:
            rounds = set(session.scalars(select(table.round).where(table.run_id == 1)))
        assert rounds <= {1, 2, 3}, table.__tablename__
    assert {"rounds", "round_sites", "round_groups", "site_rounds"} <= {t.__tablename__ for t in tables_by_round()}
