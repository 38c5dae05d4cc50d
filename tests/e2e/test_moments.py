"""Kill -9, a full disk and a clock set back, at every moment of a round: the record is true and the model the same."""

import json
import signal
import sqlite3
import time
from pathlib import Path

import pytest
import torch

from remind.model_file import load_model
from tests.e2e.chaos_process import Moment, an_hour_back, full_disk, killed, simulate

pytestmark = pytest.mark.slow

SETTINGS = (
    "train.warmup-rounds=2 train.routing-rounds=1 train.local-steps=2 model.width=16 synthetic.patients=120 "
    'evaluation.calibration="none" evaluation.operating-point="" '
    'method.rule="fedavgm" federation.averaging=0.5 results="run"'
)
EXCHANGE, FOLDER, SITE = (
    "remind_server.rounds.exchange",
    "remind_server.outputs.run_folder",
    "remind_client.rounds.training",
)
MOMENTS = {
    "the first task goes out": Moment(f"{EXCHANGE}:_push"),
    "the second task goes out": Moment(f"{EXCHANGE}:_push", number=2),
    "a site has its task": Moment(f"{SITE}:RoundTraining.answer"),
    "a site is in its steps": Moment("remind.training.work:LocalWork.steps", "after"),
    "a site writes its state": Moment("remind.processes.private_files:write_whole", "half", of="sites/1"),
    "a site has answered": Moment(f"{SITE}:RoundTraining.answer", "after"),
    "the first answer is added": Moment("remind.federation.aggregation:BlockAverage.take", "after"),
    "the model steps": Moment("remind_server.rounds.course:Course.stepped"),
    "the round's line is written": Moment(f"{FOLDER}:_append", "half", of="rounds.jsonl"),
    "the model is written": Moment(f"{FOLDER}:write_whole", "half", of="model.safetensors"),
    "the store has the round": Moment("remind_server.store.observer:StoreObserver.round_done", "after"),
    "the checkpoint is written": Moment("remind_server.rounds.state:write_whole", "half", of="checkpoints"),
    "the checkpoint is there": Moment("remind_server.rounds.recovery:Recovery.save", "after"),
    "the examination begins": Moment("remind_server.rounds.examiner:Examiner.result"),
    "a site forgets": Moment("remind_client.store.site_store:SiteStore.end", "after"),
    "the summary is written": Moment(f"{FOLDER}:write_whole", "half", of="summary.json"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    code, said = simulate(folder, "--num-clients", "2", "-c", SETTINGS)
    assert code == 0, said
    return folder / "run"


def told(folder: Path, name: str):
    text = (folder / name).read_text()
    rows = [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def is_whole(folder: Path, whole: Path) -> None:
    one, other = (load_model(f / "model.safetensors")[0] for f in (whole, folder))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    for name in ("rounds.jsonl", "groups.jsonl", "final.json"):
        assert told(whole, name) == told(folder, name), name
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["rounds_missed"]) == ("completed", {})
    with sqlite3.connect(folder.parent / "runs.db") as store:
        assert store.execute("select status, round from runs").fetchall() == [("finished", 3)]
        rows = store.execute("select round, site, absent from round_sites order by round, site").fetchall()
    assert rows == [(r, s, None) for r in (1, 2, 3) for s in (1, 2)]


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed(moment, whole, tmp_path):
    code, said = simulate(tmp_path, "--num-clients", "2", "-c", SETTINGS, moment=MOMENTS[moment], what=killed)
    assert code == -signal.SIGKILL, said
    assert not (tmp_path / "run" / "summary.json").exists(), "it has not ended"
    code, said = simulate(tmp_path, "--resume", "run")
    assert code == 0, said
    is_whole(tmp_path / "run", whole)


FULL = ["a site writes its state", "the first task goes out", "the checkpoint is written", "the summary is written"]


@pytest.mark.parametrize("moment", FULL)
def test_the_disk_is_full(moment, whole, tmp_path):
    code, said = simulate(tmp_path, "--num-clients", "2", "-c", SETTINGS, moment=MOMENTS[moment], what=full_disk)
    assert code == 1, said
    assert "Traceback" not in said
    assert "the disk takes no larger file" in said, said
    code, said = simulate(tmp_path, "--resume", "run")
    assert code == 0, said
    is_whole(tmp_path / "run", whole)


@pytest.mark.parametrize("moment", ["the second task goes out", "a site is in its steps", "the checkpoint is written"])
def test_the_clock_is_set_back(moment, whole, tmp_path):
    began = time.time()
    code, said = simulate(tmp_path, "--num-clients", "2", "-c", SETTINGS, moment=MOMENTS[moment], what=an_hour_back)
    assert code == 0, said
    is_whole(tmp_path / "run", whole)
    seconds = json.loads((tmp_path / "run" / "summary.json").read_text())["seconds"]
    assert 0 < seconds < time.time() - began + 1
