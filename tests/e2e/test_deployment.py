"""The same strategy and client over Flower's deployment engine: a SuperLink and two SuperNodes with own cohorts."""

import json
import socket
import subprocess
from pathlib import Path

import pytest

from remind.config import SyntheticConfig
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from tests.machine import free_port, until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LIMIT = 240  # seconds for the whole run; a message costs about 6 s whatever it holds
SETTINGS = "train.warmup-rounds=1 train.routing-rounds=1 train.local-steps=2 federation.min-sites=2 "


@pytest.fixture
def start(flower, tmp_path):
    """Start a Flower program in the background; all that were started are ended by their pid."""
    running = []

    def run(program: str, *arguments: str, home: str) -> Path:
        log = tmp_path / f"{home}.log"
        env = flower.env | {"FLWR_HOME": str(tmp_path / home)}
        with log.open("w") as out:
            running.append(subprocess.Popen([program, *arguments], env=env, cwd=tmp_path, stdout=out, stderr=out))
        return log

    yield run
    for process in reversed(running):
        process.terminate()
    for process in running:
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def test_two_hospitals_over_a_real_superlink(flower, start, tmp_path):
    for seed, name in enumerate(("north", "south")):
        write_cohort(generate(SyntheticConfig(patients=150 + 50 * seed), seed), tmp_path / name)
    port = free_port()
    superlink = f"127.0.0.1:{port}"
    here = ["--insecure", "--host", "127.0.0.1", "--port", str(port), "--disable-runtime-dependency-installation"]
    start("flower-superlink", *here, home="superlink")
    until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "SuperLink")
    logs = []
    for name in ("north", "south"):
        own = f'site="{name}" cohort="{tmp_path / name}" state-dir="{tmp_path / name}-state"'
        node = ["--insecure", "--superlink", superlink, "--port", str(free_port()), "--node-config", own]
        logs.append(start("flower-supernode", *node, home=name))
    flower.home.mkdir(exist_ok=True)
    connection = f'[superlink]\ndefault = "prod"\n[superlink.prod]\naddress = "{superlink}"\ninsecure = true\n'
    (flower.home / "config.toml").write_text(connection)
    out = tmp_path / "out"
    submitted = flower("run", f"{ROOT}/simulation", "prod", "--format", "json", "-c", SETTINGS + f'results="{out}"')
    run_id = json.loads(submitted.stdout)["run-id"]

    def status() -> str:
        return flower.ask("list", "prod", "--run-id", run_id)["runs"][0]["status"]

    until(lambda: status().startswith("finished"), "run", LIMIT)
    assert status() == "finished:completed", "\n".join(log.read_text()[-2000:] for log in logs)
    written = json.loads((out / "config.json").read_text())
    assert set(written["sites"]) == {"north", "south"}
    assert [json.loads(line)["answered"] for line in (out / "rounds.jsonl").open()] == [["north", "south"]] * 2
    for name in ("north", "south"):
        assert (tmp_path / f"{name}-state" / f"run-{run_id}" / "state.pt").is_file(), "encoders rest at the site"
    assert not list(out.glob("sites")), "and nowhere else"
