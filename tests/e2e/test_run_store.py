"""A run that a researcher starts appears in the dashboard without further steps."""

from pathlib import Path

import pytest

from remind_server.dashboard.reader import Reader
from remind_server.dashboard.report import run_report
from remind_server.store.open import FILE_NAME, open_store, store_url

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TINY = "train.warmup-rounds=1 train.routing-rounds=1 train.local-steps=2 synthetic.patients=200"


def test_a_flwr_run_is_in_the_store_beside_its_results(flower, tmp_path, monkeypatch):
    monkeypatch.delenv("REMIND_STORE", raising=False)
    flower.finished(f"{ROOT}/simulation", "--num-clients", "2", "-c", TINY, cwd=tmp_path)
    assert (tmp_path / "results" / FILE_NAME).exists()
    reader = Reader(open_store(store_url(tmp_path / "results")))
    [run] = reader.runs()
    assert (run.status, run.round, run.rounds) == ("finished", 2, 2)
    assert Path(run.folder, "summary.json").exists()
    assert run_report(reader, run.id).patients == "test"
    reader.engine.dispose()


def test_a_run_that_fails_is_there_with_its_reason(flower, tmp_path, monkeypatch):
    monkeypatch.delenv("REMIND_STORE", raising=False)
    wanted = f"{TINY} federation.min-sites=3 federation.deadline=5.0"
    with pytest.raises(AssertionError):
        flower.finished(f"{ROOT}/simulation", "--num-clients", "2", "-c", wanted, cwd=tmp_path)
    reader = Reader(open_store(store_url(tmp_path / "results")))
    [run] = reader.runs()
    assert run.status == "failed"
    assert "3 needed" in run.reason or "min-sites" in run.reason
    reader.engine.dispose()
