"""Command lines of Flower's programs at a site, and the meaning of their output.

Process isolation and a secret on the SuperNode's task interface: without them any user of the machine could take a
task, and with it the run's messages. Only the SuperExec that is started here knows the secret.
"""

import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remind.processes.private_files import write_private
from remind_client.coordinator import Kit
from remind_client.site_config import VARIABLE, SiteConfig
from remind_client.supernode.note import WORKER, read_note

LAUNCHERS = "launchers"
LATELY = 60.0  # seconds that a heartbeat counts; Flower sends one every 17 to 23 s, and the SuperLink waits for 60
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ROUTINE = re.compile(
    r"^INFO\s*:\s*($|FastAPI lifespan|Started server|Waiting for app|Application startup|Uvicorn running)"
)


@dataclass
class Connection:
    """The SuperNode's state from its output: registered, in contact, working on a message, last result.

    Attributes
    ----------
    beat, poll, heard
        Times of the last heartbeat and of the last request for messages that the coordinator accepted, and of the last
        note of any kind; None: none since the SuperNode started.
    last
        How the last message ended: ``answered``, ``why`` it was not, ``ago`` in the status; empty: there was none.
    trouble
        Why the coordinator cannot be reached at the moment.
    stuck
        The SuperNode runs, but its main loop is stuck.
    """

    registered: bool = False
    refused: str = ""
    at_hand: bool = False
    messages: int = 0
    beat: float | None = None
    poll: float | None = None
    heard: float | None = None
    last: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""
    stuck: bool = False
    now: Callable[[], float] = time.monotonic

    def hear(self, line: str) -> bool:
        """Parse a line of the SuperNode's output (flwr 1.41); return True for notes and routine lines, not to log."""
        if (note := read_note(line)) is not None:
            self._take(note)
            return True
        text = _COLOUR.sub("", line)
        if "Starting Flower SuperNode" in text:
            self.registered, self.at_hand, self.stuck = False, False, False
            self.beat = self.poll = None
            self.heard = self.now()
        elif "SuperNode ID:" in text:
            self.registered, self.refused = True, ""
        elif "Failed to activate SuperNode" in text:
            self.refused = "the coordinator refuses this site: not enrolled, revoked, or its last session is still open"
        elif "Receiving:" in text:
            self.at_hand = True
            self.messages += 1
        elif any(words in text for words in ("Sent successfully", "Failed to send", "Ignoring", "Failed to receive")):
            self.at_hand = False
        return bool(_ROUTINE.search(text))

    def in_touch(self) -> bool:
        """Return whether the coordinator recently accepted a heartbeat and, unless a message is in work, a request."""
        return self.registered and self._lately(self.beat) and (self.at_hand or self._lately(self.poll))

    def silent(self, seconds: float) -> bool:
        """Return whether the SuperNode, which notes every attempted heartbeat, wrote no note for so long."""
        return self.heard is not None and self.now() - self.heard > seconds

    def shown(self) -> dict[str, Any]:
        """Return how the last message ended, for the health page."""
        return {**self.last, "ago": round(self.now() - self.last["ago"], 1)} if self.last else {}

    def _lately(self, moment: float | None) -> bool:
        return moment is not None and self.now() - moment <= LATELY

    def _take(self, note: Mapping[str, Any]) -> None:
        self.heard = now = self.now()
        match note["what"]:
            case "beat" | "poll" as what:
                setattr(self, what, now if note.get("ok") else None)  # a failure cancels the last success
                self.trouble = "" if note.get("ok") else str(note.get("why", ""))
            case "done":
                self.at_hand = False
                self.last = {"answered": bool(note.get("answered")), "why": str(note.get("why", "")), "ago": now}
            case "stuck":
                self.stuck = True
            case "leaving":
                self.registered = self.at_hand = False


def environment(site: SiteConfig, file: Path, worker: Path | None = None) -> dict[str, str]:
    """Return the environment of all programs of a site: our launchers first on PATH, no telemetry, no update checks.

    Parameters
    ----------
    worker
        Socket of the warm worker, if there is one.
    """
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
        **({} if worker is None else {WORKER: str(worker)}),
    }


def commands(site: SiteConfig, kit: Kit) -> Mapping[str, list[str]]:
    """Return the command lines of SuperNode and SuperExec; write the files that they need into the state folder."""
    secret, node_config = site.state_folder / "superexec.secret", site.state_folder / "node-config.toml"
    write_private(secret, secrets.token_hex(32).encode())
    values = {"site": site.site, "cohort": str(site.path(site.cohort)), "state-dir": str(site.runs_folder)}
    write_private(node_config, "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()).encode())
    port = _free_port()
    programs = Path(sys.executable).parent
    supernode = [
        *(sys.executable, "-m", "remind_client.supernode", "--superlink", kit.address),
        *("--root-certificates", str(kit.certificates), "--auth-supernode-private-key", str(site.key_path)),
        *("--node-config", str(node_config), "--host", "127.0.0.1", "--port", str(port)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
    ]
    superexec = [
        *(str(programs / "flower-superexec"), "--insecure", "--runtime-api-address", f"127.0.0.1:{port}"),
        *("--superexec-auth-secret-file", str(secret)),
    ]
    return {"supernode": supernode, "superexec": superexec}


def _free_port() -> int:
    """Return a free port on loopback for the connection between SuperNode and SuperExec."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
