"""How Flower's programs are called at a site, and what their lines say.

Process isolation and a secret on the SuperNode's task interface: without them any user of the machine could take a
task, and with it the run's messages. Only the SuperExec that is started here knows the secret.
"""

import json
import os
import re
import secrets
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from remind.files import write_whole
from remind_client.coordinator import Kit
from remind_client.site_config import VARIABLE, SiteConfig

LAUNCHERS = "launchers"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Connection:
    """What the SuperNode's lines tell: whether it is registered, and whether a message is at hand."""

    registered: bool = False
    refused: str = ""
    at_hand: bool = False
    messages: int = 0

    def hear(self, line: str) -> None:
        """Take in a line of the SuperNode's log (flwr 1.41)."""
        text = _COLOUR.sub("", line)
        if "Starting Flower SuperNode" in text:
            self.registered, self.at_hand = False, False
        elif "SuperNode ID:" in text:
            self.registered, self.refused = True, ""
        elif "Failed to activate SuperNode" in text:
            self.refused = (
                "the coordinator does not take this site: not enrolled, revoked, or its last session still counts"
            )
        elif "Receiving:" in text:
            self.at_hand = True
            self.messages += 1
        elif any(words in text for words in ("Sent successfully", "Failed to send", "Ignoring", "Failed to receive")):
            self.at_hand = False


def environment(site: SiteConfig, file: Path) -> dict[str, str]:
    """Environment of all programs of a site: our launchers first on PATH, no telemetry, no look for updates."""
    ours = [str(site.state_folder / LAUNCHERS), str(Path(sys.executable).parent)]
    threads = str(site.resources.threads or os.cpu_count() or 1)
    return {
        **os.environ,
        "PATH": os.pathsep.join([*ours, os.environ.get("PATH", os.defpath)]),
        "FLWR_HOME": str(site.state_folder / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "OMP_NUM_THREADS": threads,
        "PYTHONUNBUFFERED": "1",
        VARIABLE: str(file.absolute()),
    }


def commands(site: SiteConfig, kit: Kit) -> Mapping[str, list[str]]:
    """Command lines of the SuperNode and its SuperExec; writes the files they name into the state folder."""
    secret, node_config = site.state_folder / "superexec.secret", site.state_folder / "node-config.toml"
    _write_private(secret, secrets.token_hex(32))
    values = {"site": site.site, "cohort": str(site.path(site.cohort)), "state-dir": str(site.runs_folder)}
    _write_private(node_config, "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    port = _free_port()
    programs = Path(sys.executable).parent
    supernode = [
        *(str(programs / "flower-supernode"), "--superlink", kit.address),
        *("--root-certificates", str(kit.certificates), "--auth-supernode-private-key", str(site.key_path)),
        *("--node-config", str(node_config), "--host", "127.0.0.1", "--port", str(port)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
    ]
    superexec = [
        *(str(programs / "flower-superexec"), "--insecure", "--runtime-api-address", f"127.0.0.1:{port}"),
        *("--superexec-auth-secret-file", str(secret)),
    ]
    return {"supernode": supernode, "superexec": superexec}


def _write_private(path: Path, text: str) -> None:
    def write(partial: Path) -> None:
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(text)

    write_whole(path, write)


def _free_port() -> int:
    """A port of loopback that is free now; the SuperNode and its SuperExec meet there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
