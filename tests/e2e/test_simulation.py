"""`flwr run` as a researcher types it, with real processes, in the environment that runs the tests."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import safetensors.torch

from remind_server.dashboard.reader import Reader
from remind_server.dashboard.views.report import run_report
from remind_server.store.open import FILE_NAME, open_store, store_url
from tests.machine import until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TINY = "train.warmup-rounds=1 train.routing-rounds=1 train.local-steps=2 synthetic.patients=200 "

STRANGER = {
    "pyproject.toml": """
        [project]
        name = "stranger"
        version = "1.0.0"
        description = "counts its nodes"
        license = "Apache-2.0"
        dependencies = []
        [tool.flwr.app]
        publisher = "someone"
        [tool.flwr.app.components]
        serverapp = "counting:server"
        clientapp = "counting:client"
        [tool.flwr.app.config]
        count = ""
    """,
    "counting.py": """
        import time
        from pathlib import Path
        from flwr.clientapp import ClientApp
        from flwr.serverapp import ServerApp

        server = ServerApp()
        client = ClientApp()

        @server.main()
        def main(grid, context):
            seen = -1
            while not seen or seen != len(list(grid.get_node_ids())):
                seen = len(list(grid.get_node_ids()))
                time.sleep(1)
            Path(context.run_config["count"]).write_text(str(seen))
    """,
}


def test_num_clients_works_for_a_strangers_app(flower, tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    for name, text in STRANGER.items():
        (app / name).write_text(textwrap.dedent(text))
    count = tmp_path / "count"
    flower.finished("app", "--num-clients", "4", "-c", f'count="{count}"', cwd=tmp_path)
    assert count.read_text() == "4"


@pytest.fixture(scope="module")
def three(flower, tmp_path_factory):
    """The results of a run of three hospitals, and its log."""
    here = tmp_path_factory.mktemp("three")
    typed = ["--num-clients", "3", "-c", TINY, "-c", 'results="my results"']
    return here / "my results", flower.finished(f"{ROOT}/simulation", *typed, cwd=here)


def there_are_results(folder):
    assert json.loads((folder / "summary.json").read_text())
    assert (folder / "model.safetensors").stat().st_size > 0


def test_num_clients(three):
    results, log = three
    assert "3 simulated SuperNodes" in log
    there_are_results(results)


def test_federation_config_has_their_number_too_and_one_is_enough(flower, tmp_path):
    log = flower.finished(
        f"{ROOT}/simulation", "--federation-config", "num-supernodes=1", "-c", TINY, "-c", 'results="r"', cwd=tmp_path
    )
    assert "1 simulated SuperNodes" in log
    there_are_results(tmp_path / "r")


def test_the_user_is_told_how_to_watch_and_where_results_are(flower, tmp_path, monkeypatch):
    """Without settings for hospitals and results: two hospitals, a new folder, a run in the store beside it."""
    monkeypatch.delenv("REMIND_STORE", raising=False)
    here = tmp_path / """Ann's "own" folder"""
    here.mkdir()
    done = flower("run", f"{ROOT}/simulation", "-c", TINY, cwd=here)
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("watch: ")]
    watch, results = line.removeprefix("watch: ").split("   results: ")
    assert results.startswith(str(here / "results"))
    watched = flower(*watch.split()[1:])
    assert watched.returncode == 0, watched.stderr
    assert "2 simulated SuperNodes" in watched.stdout + watched.stderr
    there_are_results(Path(results))
    assert (here / "results" / FILE_NAME).exists()
    reader = Reader(open_store(store_url(here / "results")))
    [run] = reader.runs()
    assert (run.status, run.round, run.rounds) == ("finished", 2, 2)
    assert Path(run.folder, "summary.json").samefile(Path(results, "summary.json"))
    assert run_report(reader, run.id).patients == "test"
    reader.engine.dispose()


def test_a_run_that_fails_is_in_the_store_with_its_reason(flower, tmp_path, monkeypatch):
    monkeypatch.delenv("REMIND_STORE", raising=False)
    wanted = f"{TINY} federation.min-sites=3 federation.deadline=5.0"
    with pytest.raises(AssertionError):
        flower.finished(f"{ROOT}/simulation", "--num-clients", "2", "-c", wanted, cwd=tmp_path)
    reader = Reader(open_store(store_url(tmp_path / "results")))
    [run] = reader.runs()
    assert run.status == "failed"
    assert "3 needed" in run.reason or "min-sites" in run.reason
    reader.engine.dispose()


def test_a_mistake_is_one_message(flower, tmp_path):
    for arguments in (["--num-clients", "0"], ["-c", "train.speed=1"], ["--cohort", "nowhere"]):
        done = flower("run", f"{ROOT}/simulation", *arguments, cwd=tmp_path)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "Error" in done.stderr


def test_ray_and_in_process_runs_of_one_seed_end_with_the_same_model(three, tmp_path):
    """Bit for bit: same strategy, same client code, sums in one order, one thread of arithmetic."""
    settings = ["--num-clients", "3", "-c", TINY + 'results="alone"']
    command = [str(Path(sys.executable).parent / "remind"), "simulate", *settings]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    by_ray, alone = ((folder / "model.safetensors").read_bytes() for folder in (three[0], tmp_path / "alone"))
    assert tensors_of(by_ray) == tensors_of(alone)


def tensors_of(model: bytes) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in safetensors.torch.load(model).items()}


def test_hospitals_come_back_when_their_worker_was_killed(flower, tmp_path):
    """The current round names the lost hospitals; later rounds have all, on a new worker."""
    rounds = tmp_path / "r" / "rounds.jsonl"
    settings = "train.warmup-rounds=4 train.routing-rounds=4 train.local-steps=20 synthetic.patients=400 "
    done = flower(
        *("run", f"{ROOT}/simulation", "--num-clients", "3", "--format", "json"),
        *("--federation-config", "client-resources-num-cpus=1 init-args-num-cpus=2"),
        *("-c", settings + f'results="{tmp_path / "r"}"'),
        cwd=tmp_path,
    )
    run = json.loads(done.stdout)["run-id"]
    until(lambda: rounds.is_file() and len(rounds.read_text().splitlines()) >= 2, limit=480)
    workers = [pid for pid in flower.processes() if b"ray::ClientAppActor" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    until(lambda: flower.status(run).startswith("finished"), limit=480)
    log = flower("log", run, "--show").stdout
    assert flower.status(run) == "finished:completed", log
    answered = [json.loads(line)["answered"] for line in rounds.read_text().splitlines()]
    assert len(answered) == 8
    assert len(answered[-1]) == 3, log
    assert sum(len(names) < 3 for names in answered) <= 2, "one message was current, or the next one found it dead"
    assert "another one takes its place" in log
