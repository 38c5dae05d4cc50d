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


@pytest.mark.parametrize("clients", [1, 4])
def test_num_clients_works_for_a_strangers_app(flower, tmp_path, clients):
    app = tmp_path / "app"
    app.mkdir()
    for name, text in STRANGER.items():
        (app / name).write_text(textwrap.dedent(text))
    count = tmp_path / "count"
    flower.finished("app", "--num-clients", str(clients), "-c", f'count="{count}"', cwd=tmp_path)
    assert count.read_text() == str(clients)


@pytest.mark.parametrize(
    ("typed", "clients"),
    [
        (["--num-clients", "3"], 3),
        (["--num-clients", "1"], 1),
        (["--federation-config", "num-supernodes=4"], 4),
        ([], 2),
    ],
    ids=["three", "one", "federation-config", "default"],
)
def test_federated_remind(flower, tmp_path, typed, clients):
    log = flower.finished(f"{ROOT}/simulation", *typed, "-c", TINY, "-c", 'results="my results"', cwd=tmp_path)
    assert f"{clients} simulated SuperNodes" in log
    assert json.loads((tmp_path / "my results" / "summary.json").read_text())
    assert (tmp_path / "my results" / "model.safetensors").stat().st_size > 0


def test_the_user_is_told_how_to_watch_and_where_results_are(flower, tmp_path):
    here = tmp_path / """Ann's "own" folder"""
    here.mkdir()
    done = flower("run", f"{ROOT}/simulation", "--num-clients", "2", "-c", TINY, cwd=here)
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("watch: ")]
    watch, results = line.removeprefix("watch: ").split("   results: ")
    assert results.startswith(str(here / "results"))
    watched = flower(*watch.split()[1:])
    assert watched.returncode == 0, watched.stderr
    assert "2 simulated SuperNodes" in watched.stdout + watched.stderr
    assert Path(results, "summary.json").exists()


def test_a_mistake_is_one_message(flower, tmp_path):
    for arguments in (["--num-clients", "0"], ["-c", "train.speed=1"], ["--cohort", "nowhere"]):
        done = flower("run", f"{ROOT}/simulation", *arguments, cwd=tmp_path)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "Error" in done.stderr


def test_ray_and_in_process_runs_of_one_seed_end_with_the_same_model(flower, tmp_path):
    """Bit for bit: same strategy, same client code, sums in one order, one thread of arithmetic."""
    flower.finished(f"{ROOT}/simulation", "--num-clients", "3", "-c", TINY + 'results="ray"', cwd=tmp_path)
    for folder in ("one", "two"):
        settings = ["--num-clients", "3", "-c", TINY + f'results="{folder}"']
        command = [str(Path(sys.executable).parent / "remind"), "simulate", *settings]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    models = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("ray", "one", "two")]
    assert tensors_of(models[0]) == tensors_of(models[1]) == tensors_of(models[2])


def tensors_of(model: bytes) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in safetensors.torch.load(model).items()}


def test_hospitals_come_back_when_their_worker_was_killed(flower, tmp_path):
    """The round at hand names who was lost; later rounds have everybody, on a new worker."""
    rounds = tmp_path / "r" / "rounds.jsonl"
    settings = "train.warmup-rounds=4 train.routing-rounds=8 train.local-steps=20 synthetic.patients=400 "
    done = flower(
        *("run", f"{ROOT}/simulation", "--num-clients", "3", "--format", "json"),
        *("--federation-config", "client-resources-num-cpus=1 init-args-num-cpus=2"),
        *("-c", settings + f'results="{tmp_path / "r"}"'),
        cwd=tmp_path,
    )
    run = json.loads(done.stdout)["run-id"]
    until(lambda: rounds.is_file() and len(rounds.read_text().splitlines()) >= 2, limit=240)
    workers = [pid for pid in flower.processes() if b"ray::ClientAppActor" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    until(lambda: flower.status(run).startswith("finished"), limit=240)
    log = flower("log", run, "--show").stdout
    assert flower.status(run) == "finished:completed", log
    answered = [json.loads(line)["answered"] for line in rounds.read_text().splitlines()]
    assert len(answered) == 12
    assert len(answered[-1]) == 3, log
    assert sum(len(names) < 3 for names in answered) <= 2, "one message was at hand, or the next one found it dead"
    assert "another one takes its place" in log
