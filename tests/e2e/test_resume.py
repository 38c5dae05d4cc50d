"""A simulation that is killed with -9 during a write is resumed, and equals an uninterrupted one bit by bit."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from remind.model_file import load_model

pytestmark = pytest.mark.slow

SETTINGS = "train.warmup-rounds=2 train.routing-rounds=2 train.local-steps=2 synthetic.patients=200 model.width=16"
KILLS = """
import os, signal, sys
from pathlib import Path
import remind_server.rounds.state as state
import remind.processes.private_files as files
write = {place}.{name}
def dies(path, *given, **named):
    if {when}:
        path.with_name(path.name + ".partial").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, *given, **named)
{place}.{name} = dies
from remind.cli import main
sys.argv = ["remind", *sys.argv[1:]]
main()
"""
PLACES = {
    "checkpoint": {"place": "state", "name": "write_whole", "when": 'path.name == "round-00002.safetensors"'},
    "site": {
        "place": "files",
        "name": "write_whole",
        "when": '"sites/1/" in str(path) and Path("killed/checkpoints/round-00002.safetensors").exists()',
    },
}


def simulate(cwd, *options, kills=None):
    command = [sys.executable, "-m", "remind.cli"] if kills is None else [sys.executable, "-c", kills]
    return subprocess.run(
        [*command, "simulate", "-q", *options], cwd=cwd, capture_output=True, text=True, timeout=800, check=False
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = simulate(folder, "--num-clients", "2", "-c", f'{SETTINGS} results="whole"')
    assert done.returncode == 0, done.stderr
    return folder / "whole"


def told(folder: Path, name: str):
    text = (folder / name).read_text()
    rows = [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize("where", PLACES)
def test_killed_in_a_write(where, whole, tmp_path):
    settings = f'{SETTINGS} results="killed"'
    done = simulate(tmp_path, "--num-clients", "2", "-c", settings, kills=KILLS.format(**PLACES[where]))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(tmp_path.rglob("*.partial")), "half a file is there"
    done = simulate(tmp_path, "--resume", "killed")
    assert done.returncode == 0, done.stderr
    one, other = (load_model(folder / "model.safetensors")[0] for folder in (whole, tmp_path / "killed"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    for name in ("rounds.jsonl", "groups.jsonl", "final.json"):
        assert told(whole, name) == told(tmp_path / "killed", name)
    done = simulate(tmp_path, "--resume", "killed")
    assert done.returncode == 1
    assert "has ended; there is nothing to resume" in done.stderr
