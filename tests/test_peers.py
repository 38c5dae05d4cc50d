"""The job that `benchmarks/peers.py` gives to every framework: all of them must end with the same model."""

import importlib
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = {"sites": 2, "rounds": 2, "steps": 2, "batch": 8, "patients": 20, "width": 8}
WORDS = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]


@pytest.fixture
def peers(monkeypatch):
    """Let the modules beside the script be found, as for a script."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "peers", raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_in_process_simulation_ends_with_the_model_of_the_plain_loop(peers, tmp_path):
    ours, plain, of_job = (importlib.import_module(f"peers.{name}") for name in ("ours", "plain", "job"))
    Job, Record = of_job.Job, of_job.Record

    job, ends = Job(**TINY), {}
    for name, do in (("plain", plain.main), ("ours", ours.in_process)):
        (tmp_path / name).mkdir()
        record = Record(tmp_path / name)
        do(job, record)
        assert len(record.ends()) == job.rounds
        ends[name] = record.model()
    assert ends["plain"].keys() == ends["ours"].keys()
    start = dict(job.model().named_parameters())
    for name, tensor in ends["plain"].items():
        torch.testing.assert_close(ends["ours"][name], tensor, rtol=1e-5, atol=1e-6)
    assert any(not torch.allclose(start[name], tensor, atol=1e-4) for name, tensor in ends["plain"].items())
    assert job.loss(ends["ours"]) == pytest.approx(job.loss(ends["plain"]), rel=1e-5)
    assert job.loss(ends["plain"]) < job.loss({name: p.detach() for name, p in start.items()})


def test_a_round_costs_what_the_processes_used_between_its_ends(peers):
    measure = importlib.import_module("peers.measure")
    FailedError, Timeline, figures = measure.FailedError, measure.Timeline, measure.figures

    timeline = Timeline(seen=[(100.0, 0.0), (110.0, 5.0), (120.0, 25.0)], peak=7)
    measured = figures(timeline, 90.0, [104.0, 108.0, 115.0])
    assert measured.start == 14
    assert measured.seconds == pytest.approx(5.5)
    assert measured.cpu_seconds == pytest.approx((2.0 + 11.0) / 2)  # 2 → 4 → 15
    assert measured.peak == 7
    with pytest.raises(FailedError, match="fewer than two rounds"):
        figures(timeline, 90.0, [104.0])


def test_memory_and_time_are_those_of_all_descendants(peers, tmp_path):
    """A child's child that outlives the child counts, and is ended."""
    script = (
        "from peers.measure import run; import pathlib, sys;"
        "t, _ = run(['sh', '-c', sys.argv[1]], {}, pathlib.Path(sys.argv[2]) / 'log', 60);"
        "print(t.peak, t.seen[-1][1])"
    )
    works = 'import time; b = bytearray(60_000_000); sum(range(10**7)); open("done", "w"); time.sleep(60)'
    child = "until [ -e done ]; do sleep 0.05; done; sleep 1.5"  # `run` looks every second
    grandchild = f"{sys.executable} -c '{works}' & echo $! > pid; {child}"
    done = subprocess.run(
        [sys.executable, "-c", script, grandchild, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(FOLDER), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    peak, cpu = map(float, done.stdout.split())
    assert peak > 50e6
    assert cpu > 0.1
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


def test_another_final_loss_than_that_of_the_plain_loop_is_marked(peers):
    script = runpy.run_path(str(FOLDER / "peers.py"))
    results = [
        script["Result"](5, name, loss=loss) for name, loss in (("plain", 0.5), ("ours", 0.500001), ("pfl", 0.6))
    ]
    assert [script["differs"](one, results) for one in results] == [False, False, True]
    assert not script["differs"](script["Result"](5, "flower", why="more than 9 s"), results)


OTHERS = pytest.mark.skipif(
    not os.environ.get("REMIND_PEERS"), reason="installs and starts other frameworks for minutes: set REMIND_PEERS=1"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ours", *(pytest.param(name, marks=OTHERS) for name in ("ours-ray", "flower", "nvflare", "pfl"))]
)
def test_every_candidate_ends_with_the_loss_of_the_plain_loop(name, tmp_path):
    words = [*WORDS, "--limit", "500", "--only", "plain", name, "--environments", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "peers.py"), *words], capture_output=True, text=True, check=False
    )
    rows = {line.split("|")[1].strip(): line.split("|") for line in done.stdout.splitlines() if line.startswith("| ")}
    if "pip install" in rows.get(name, [""])[-2]:
        pytest.skip(f"no package index can be reached: {rows[name][-2]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(rows[name][-2]) == pytest.approx(float(rows["plain"][-2]), rel=1e-4)
