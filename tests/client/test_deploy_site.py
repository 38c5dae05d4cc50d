"""The site's containers and units, checked without a container engine."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from remind_client.command import app

ROOT = Path(__file__).parents[2]
SITE, CHART = ROOT / "deploy" / "site", ROOT / "deploy" / "helm" / "site"
DOCKERFILE = (SITE / "Dockerfile").read_text()
TEMPLATES = sorted((CHART / "templates").glob("*.yaml"))


def rendered(text: str) -> str:
    """A template with its actions taken out: enough to see whether what is left is YAML."""
    lines = [line for line in text.splitlines() if not re.fullmatch(r"\s*\{\{-? (if|end|else).*\}\}", line)]
    return re.sub(r"\{\{.*?\}\}", "x", "\n".join(lines))


def test_the_image_runs_as_nobody_special_from_a_pinned_base():
    assert re.search(r"^USER 10002:10002$", DOCKERFILE, re.M)
    assert re.search(r"^ARG PYTHON=python:\d+\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.M)
    assert "latest" not in DOCKERFILE
    stages = DOCKERFILE.split("\nFROM ")
    final = stages[3]
    assert final.startswith("${PYTHON} AS cpu")
    assert "pip install" not in final, "no installer at work where the image is used"
    assert not re.search(r"gcc|build-essential", DOCKERFILE)
    assert stages[4].startswith("cpu AS cuda")


@pytest.mark.skipif(not shutil.which("hadolint"), reason="needs hadolint")
def test_hadolint():
    done = subprocess.run(["hadolint", SITE / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_build_sees_only_what_it_needs():
    ignored = (SITE / "Dockerfile.dockerignore").read_text().split()
    assert ignored[ignored.index("*")] == "*"
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
    for name in " ".join(copied).split():
        assert f"!{name}" in ignored
        assert (ROOT / name).exists()


def test_compose():
    service = yaml.safe_load((SITE / "compose.yaml").read_text())["services"]["site"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "ports" not in service
    assert any(volume.endswith(":/data:ro") for volume in service["volumes"])
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace > 120 + 2 * 10, "drain_seconds, and what ending takes"
    laid_over = yaml.safe_load((SITE / "compose.cuda.yaml").read_text())["services"]["site"]
    assert laid_over["build"]["target"] == "cuda"


def test_the_unit():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(SITE / "remind-site.service")
    service = unit["Service"]
    assert service["User"] == "remind-site"
    assert service["ExecStart"].endswith("-m remind_client run --config /var/lib/remind-site/site.toml")
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > 140
    assert service["ProtectSystem"] == "strict"


def unit_of(*names: str) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read([SITE / name for name in names])
    return unit


def test_the_service_of_predictions_has_no_network_and_serves_on_a_socket_of_loopback():
    from remind.web.listening import LOOPBACK
    from remind_client.serving.serve import PORT

    unit = unit_of("remind-site-serve.service", "remind-site-serve.socket")
    service = unit["Service"]
    assert service["User"] == "remind-site"
    assert service["PrivateNetwork"] == "yes"
    assert service["RestrictAddressFamilies"] == "AF_UNIX"
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"
    assert unit["Unit"]["Requires"] == "remind-site-serve.socket"
    assert unit["Socket"]["ListenStream"] == f"{LOOPBACK}:{PORT}"
    group: Any = typer.main.get_command(app)
    [command] = [c for c in group.commands.values() if c.name == "serve"]
    assert "-m remind_client serve " in service["ExecStart"]
    options = {name for parameter in command.params for name in parameter.opts}
    given = {word for word in service["ExecStart"].split() if word.startswith("--")}
    assert given <= options
    assert not given & {"--host", "--port"}, "the socket says where"


def test_the_container_of_predictions_is_reached_from_this_machine_alone():
    service = yaml.safe_load((SITE / "compose.yaml").read_text())["services"]["serve"]
    assert service["ports"] == ["127.0.0.1:8790:8790"]
    assert service["profiles"] == ["serve"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert '".[serve]"' in DOCKERFILE
    assert 'site) extras="serve"' in (ROOT / "deploy" / "lock.sh").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_reads_the_units(tmp_path):
    """Their program is not installed here: `true` stands in for it."""
    for unit in sorted(path for path in SITE.iterdir() if path.suffix in (".service", ".socket")):
        text = re.sub("/opt/remind/bin/python .*", shutil.which("true"), unit.read_text())
        (tmp_path / unit.name).write_text(text)
    units = sorted(map(str, tmp_path.iterdir()))
    assert len(units) == 3
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_the_charts_templates_are_yaml_and_use_values_that_are_there(template):
    text = template.read_text()
    manifest = yaml.safe_load(rendered(text))
    assert {"apiVersion", "kind", "metadata"} <= set(manifest)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in set(re.findall(r"\.Values\.([\w.]+)", text)):
        found = values
        for part in path.split("."):
            assert part in found, f"{template.name}: .Values.{path} is not in values.yaml"
            found = found[part]


def test_the_charts_pod_is_locked_down():
    pod = yaml.safe_load(rendered((CHART / "templates" / "statefulset.yaml").read_text()))["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in (*pod["initContainers"], *pod["containers"]):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"]["drop"] == ["ALL"]
    [cohort] = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "cohort"]
    assert cohort["readOnly"] is True


def test_the_charts_settings_are_a_site_toml(tmp_path):
    """The template filled in by hand with its own values, read by the program that will read it."""
    from remind_client.site_config import load_site_config

    values = yaml.safe_load((CHART / "values.yaml").read_text())
    text = (CHART / "templates" / "configmap.yaml").read_text().partition("site.toml: |\n")[2]
    text = re.sub(r"\{\{- else if.*?(?=\{\{- end)", "", text, flags=re.S)  # the first branch of each
    text = re.sub(r"\{\{-? (if|end).*?\}\}\n?", "", text)
    text = re.sub(r"\s*\{\{- \.Values\.policy \| nindent 4 \}\}", "\n" + values["policy"], text)
    text = text.replace('{{ printf "/data/%s" .Values.cohort.path | quote }}', '"/data/"')
    text = text.replace("{{ .Values.threads }}", str(values["threads"]))

    def quoted(match: re.Match[str]) -> str:
        found = values
        for part in match[1].split("."):
            found = found[part]
        return f'"{found}"'

    (tmp_path / "site.toml").write_text(re.sub(r"\{\{ \.Values\.([\w.]+) \| quote \}\}", quoted, text))
    site = load_site_config(tmp_path)
    assert site.policy.minimum_patients == 10
    assert site.state_folder == Path("/var/lib/remind-site/state")
    assert site.vault_key_path == Path("/run/vault/vault.key")
    own = text.replace('key_file = "/run/vault/vault.key"', "")
    (tmp_path / "site.toml").write_text(re.sub(r"\{\{ \.Values\.([\w.]+) \| quote \}\}", quoted, own))
    assert load_site_config(tmp_path).vault_key_path == Path("/var/lib/remind-site/vault.key"), (
        "on its volume, writable"
    )
