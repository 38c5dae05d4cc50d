"""Where a page or a service listens: an address of this machine, or a socket that the service manager handed over."""

import ipaddress
import os
import socket

from remind.errors import UserError

LOOPBACK = "127.0.0.1"
BACKLOG = 128
HANDED_OVER = 3  # the first file descriptor after standard error: sd_listen_fds(3)


def listen(host: str | None, port: int | None, usual_port: int) -> socket.socket:
    """The listening socket. What is not given is `LOOPBACK` and `usual_port`, or the address of the socket handed over.

    A process in a network of its own (systemd's PrivateNetwork) still serves on a socket that it was handed.

    Raises
    ------
    UserError
        If nobody can listen there, or an address is given although a socket was handed over.
    """
    handed = _handed_over()
    if handed is not None:
        if host is not None or port is not None:
            raise UserError(
                f"--host, --port: the service manager has handed over a socket, on {_shown(handed)}; leave them out"
            )
        return handed
    host, port = LOOPBACK if host is None else host, usual_port if port is None else port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: cannot listen there: {error.strerror or error}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can get there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def in_url(host: str) -> str:
    """The host as a browser on this machine opens it."""
    if host in ("0.0.0.0", "::"):  # every address: no address that a browser opens
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _handed_over() -> socket.socket | None:
    """The socket of systemd's protocol: LISTEN_PID names this process, LISTEN_FDS says how many there are."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    number = os.environ.get("LISTEN_FDS", "0")
    if number != "1":
        raise UserError(f"LISTEN_FDS={number}: only one socket is listened on; give the .socket unit one ListenStream")
    try:
        handed = socket.socket(fileno=HANDED_OVER)
        listens = handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise UserError(f"file descriptor {HANDED_OVER}, handed over, is no socket: {error.strerror}") from None
    if not listens or handed.family not in (socket.AF_INET, socket.AF_INET6):
        raise UserError("the socket handed over does not listen on TCP: ListenStream=ADDRESS:PORT, Accept=no")
    return handed


def _shown(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"{in_url(host)}:{port}"
