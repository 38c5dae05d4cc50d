"""A run whose coordinator is killed with -9 is resumed, and equals an uninterrupted one bit by bit."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch

from remind.model_file import load_model
from tests.e2e.week import Week
from tests.machine import until

pytestmark = pytest.mark.slow

SETTINGS = "train.warmup-rounds=1 train.routing-rounds=2 train.local-steps=4 "


def server_apps(week: Week) -> list[int]:
    """Processes of ServerApps of this coordinator, by their own home folder."""
    home, found = f"HOME={week.coordinator.home}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = home in (folder / "environ").read_bytes().split(b"\0")
            if ours and b"flwr-serverapp" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:  # gone meanwhile, or not ours
            continue
    return found


def test_a_killed_coordinator_goes_on(week):
    for seed, name in enumerate(("north", "south")):
        week.enrol(name, seed).start()
    week.wait_healthy("at the start")
    c = week.coordinator
    run_id, whole = week.begin(SETTINGS)
    until(lambda: c.ended(run_id), "the whole run", 240)

    run_id, out = week.begin(SETTINGS)
    until((out / "checkpoints" / "round-00001.safetensors").exists, "a round", 120)
    assert "is still" in c("resume", c.where, run_id, code=1)
    assert server_apps(week)
    for pid in server_apps(week):
        os.kill(pid, signal.SIGKILL)
    week.stop(run_id)  # or wait for a minute, until Flower calls it failed
    until(lambda: c.ended(run_id), "the end of the killed run", 120)
    assert not (out / "summary.json").exists()

    again = re.search(r"run (\d+)", c("resume", c.where, run_id))[1]
    assert again != run_id
    until(lambda: c.ended(again), "the resumed run", 240)
    assert "finished:completed" in next(line for line in week.ended().splitlines() if line.startswith(again))
    one, other = (load_model(folder / "model.safetensors")[0] for folder in (whole, out))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    for name in ("final.json", "groups.jsonl"):
        assert (whole / name).read_text() == (out / name).read_text()
    rounds = [json.loads(line) for line in (out / "rounds.jsonl").open()]
    assert [(r["round"], r["answered"]) for r in rounds] == [(r, ["north", "south"]) for r in (1, 2, 3)]
    for site in week.sites.values():
        folders = [path.parent.name for path in (site.folder / "state" / "runs").glob("run-*/state.pt")]
        assert f"run-{run_id}" in folders, "the hospital continues in the folder of the first run"
        assert f"run-{again}" not in folders
    assert "nothing to resume" in c("resume", c.where, run_id, code=1)
