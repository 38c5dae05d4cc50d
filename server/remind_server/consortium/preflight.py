"""Validate everything that a consortium needs before it is served, and report all problems at once."""

import contextlib
import errno
import json
import shutil
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from remind.alerts.settings import read_alerts
from remind.errors import UserError, several
from remind_server.consortium.certificates import mismatches, require_valid
from remind_server.consortium.flower import environment, superexec_command, superlink_command
from remind_server.consortium.folder import Folder
from remind_server.consortium.ledger import read_ledger
from remind_server.consortium.proxy import nginx_conf, nginx_program

LEAST_DISK = 1 << 30  # the database stores the messages of a round until they are fetched


def require_servable(folder: Folder) -> None:
    """Refuse to start if there are problems.

    Raises
    ------
    UserError
        One line per problem, with its remedy.
    """
    if found := problems(folder):
        raise several(f"{folder.root} cannot be served:", found)


def problems(folder: Folder) -> list[str]:
    """Return the problems of a consortium that is not running: its ports must be free. Empty if there are none."""
    checks: list[Callable[[Folder], object]] = [
        _private,
        require_valid,
        _matching,
        _programs,
        _proxy,
        require_room,
        lambda f: read_ledger(f.ledger),
        lambda f: read_alerts(f.root),
        *(partial(_free, name=name, address=address, port=port) for name, address, port in _ports(folder)),
    ]
    found = []
    for check in checks:
        try:
            check(folder)
        except UserError as error:
            found.append(str(error))
    return found


def write_pids(folder: Folder, pids: dict[str, int]) -> None:
    """Record the started processes, for the next start after a kill."""
    with contextlib.suppress(OSError):  # a full disk must not stop `serve`
        (folder.run / "pids.json").write_text(json.dumps(pids))


def leftovers(folder: Folder) -> list[str]:
    """Return ``name (pid …)`` of processes that a killed `serve` could not end."""
    try:
        pids = json.loads((folder.run / "pids.json").read_text())
    except (OSError, ValueError):
        return []
    return [f"{name} (pid {pid})" for name, pid in pids.items() if str(folder.root).encode() in _command_line(pid)]


def _private(folder: Folder) -> None:
    for path in (folder.server, folder.loopback, folder.superexec_secret, folder.ca_key):
        if not path.exists():
            if path == folder.ca_key:  # may be kept elsewhere
                continue
            raise UserError(f"{path} is missing; restore it from a backup")
        if path.stat().st_mode & 0o077:
            raise UserError(f"other users can read {path}; restrict it with: chmod 600 {path}")


def _matching(folder: Folder) -> None:
    if said := mismatches(folder):
        raise UserError("; ".join(said))


def _programs(folder: Folder) -> None:
    path = environment(folder)["PATH"]
    for command in (superlink_command(folder), superexec_command(folder), ["flwr-serverapp"]):
        if shutil.which(command[0], path=path) is None:
            raise UserError(f"{command[0]} is not installed: pip install federated-remind")


def require_room(folder: Folder) -> None:
    """Refuse a nearly full disk: if its database cannot grow, the SuperLink answers every site with an error.

    Raises
    ------
    UserError
        Less than `LEAST_DISK` is free.
    """
    free = shutil.disk_usage(folder.root).free
    if free < LEAST_DISK:
        raise UserError(
            f"disk: {free >> 20} MiB free in {folder.root}, where the database of messages grows; "
            f"{LEAST_DISK >> 30} GiB are needed"
        )


def _proxy(folder: Folder) -> None:
    if folder.settings.proxy.kind == "nginx":
        nginx_program(folder.settings.proxy.program)
        nginx_conf(folder)


def _ports(folder: Folder) -> list[tuple[str, str, int]]:
    settings = folder.settings
    ports = [
        ("local.superlink", "127.0.0.1", settings.local.superlink),
        ("local.health", "127.0.0.1", settings.local.health),
    ]
    if settings.proxy.kind == "nginx":
        ports.append(("proxy.port", settings.proxy.address, settings.proxy.port))
    return ports


def _free(folder: Folder, name: str, address: str, port: int) -> None:
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        raise UserError(f"{name}: {_why(folder, name, address, port, error)}") from None


def _why(folder: Folder, name: str, address: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        if left := leftovers(folder):
            return f"port {port} is taken by processes of a killed `serve`: end {', '.join(left)}"
        return f"port {port} is taken; find it with: ss -ltnp 'sport = :{port}', or set another in consortium.toml"
    if error.errno == errno.EACCES:
        return (
            f"only root may listen on port {port}; set proxy.port to 8443 in consortium.toml and forward {port} to it, "
            "or allow it: sysctl net.ipv4.ip_unprivileged_port_start=443"
        )
    return f"cannot listen on {address}, port {port}: {error.strerror}; give an address of this machine"


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
