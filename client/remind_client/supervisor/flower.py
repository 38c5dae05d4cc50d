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
LATELY = 60.0  # seconds that a sign of life counts; Flower sends one every 17 to 23 s, and the SuperLink waits for 60
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ROUTINE = re.compile(
    r"^INFO\s*:\s*($|FastAPI lifespan|Started server|Waiting for app|Application startup|Uvicorn running)"
)


@dataclass
class Connection:
    """What the SuperNode tells: whether it is registered and in touch, whether a message is at hand, what it did last.

    Attributes
    ----------
    beat, poll, heard
        `now` of the last heartbeat and the last question for messages, None if the coordinator did not take it, and of
        the last note of any kind; None: none since the SuperNode started.
    last
        How the last message ended: ``answered``, ``why`` it was not, ``ago`` in the status; empty: there was none.
    trouble
        Why the coordinator cannot be reached just now.
    stuck
        The SuperNode runs, but the loop that does its work does not go on.
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
        """Take in a line of the SuperNode's output (flwr 1.41); whether it is not for the log: a note, or routine."""
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
            self.refused = (
                "the coordinator does not take this site: not enrolled, revoked, or its last session still counts"
            )
        elif "Receiving:" in text:
            self.at_hand = True
            self.messages += 1
        elif any(words in text for words in ("Sent successfully", "Failed to send", "Ignoring", "Failed to receive")):
            self.at_hand = False
        return bool(_ROUTINE.search(text))

    def in_touch(self) -> bool:
        """Whether the coordinator took a sign of life and, unless a message is at hand, a question for one lately."""
        return self.registered and self._lately(self.beat) and (self.at_hand or self._lately(self.poll))

    def silent(self, seconds: float) -> bool:
        """Whether the SuperNode, which notes every heartbeat that it tries, has noted nothing for so long."""
        return self.heard is not None and self.now() - self.heard > seconds

    def shown(self) -> dict[str, Any]:
        """How the last message ended, for the health page."""
        return {**self.last, "ago": round(self.now() - self.last["ago"], 1)} if self.last else {}

    def _lately(self, moment: float | None) -> bool:
        return moment is not None and self.now() - moment <= LATELY

    def _take(self, note: Mapping[str, Any]) -> None:
        self.heard = now = self.now()
        match note["what"]:
            case "beat" | "poll" as what:
                setattr(self, what, now if note.get("ok") else None)  # what fails now does not count as lately
                self.trouble = "" if note.get("ok") else str(note.get("why", ""))
            case "done":
                self.at_hand = False
                self.last = {"answered": bool(note.get("answered")), "why": str(note.get("why", "")), "ago": now}
            case "stuck":
                self.stuck = True
            case "leaving":
                self.registered = self.at_hand = False


def environment(site: SiteConfig, file: Path, worker: Path | None = None) -> dict[str, str]:
    """Environment of all programs of a site: our launchers first on PATH, no telemetry, no look for updates.

    Parameters
    ----------
    worker
        Socket of the warm worker, where there is one.
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
    """Command lines of the SuperNode and its SuperExec; writes the files they name into the state folder."""
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
    """A port of loopback that is free now; the SuperNode and its SuperExec meet there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
