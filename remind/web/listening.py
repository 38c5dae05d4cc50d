"""The listening socket of a page or a service: on an address of this machine, or passed by the service manager."""

import ipaddress
import os
import socket

from remind.errors import UserError

LOOPBACK = "127.0.0.1"
BACKLOG = 128
HANDED_OVER = 3  # the first file descriptor after standard error: sd_listen_fds(3)


def listen(host: str | None, port: int | None, usual_port: int) -> socket.socket:
    """Return the listening socket; the default is `LOOPBACK` and `usual_port`, or the socket passed by the manager.

    A process in its own network namespace (systemd's PrivateNetwork) can still serve on a socket passed to it.

    Raises
    ------
    UserError
        Listening there fails, or an address is given although a socket was passed.
    """
    handed = _handed_over()
    if handed is not None:
        if host is not None or port is not None:
            raise UserError(
                f"--host, --port: the service manager has passed a socket on {_shown(handed)}; omit these options"
            )
        return handed
    host, port = LOOPBACK if host is None else host, usual_port if port is None else port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: cannot listen there: {error.strerror or error}") from None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def in_url(host: str) -> str:
    """Return the host name for a browser on this machine."""
    if host in ("0.0.0.0", "::"):  # means "every address"; a browser cannot open it
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _handed_over() -> socket.socket | None:
    """Return the socket passed by systemd's protocol: LISTEN_PID is this process, LISTEN_FDS the number of sockets."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    number = os.environ.get("LISTEN_FDS", "0")
    if number != "1":
        raise UserError(f"LISTEN_FDS={number}: only one socket is listened on; give the .socket unit one ListenStream")
    try:
        handed = socket.socket(fileno=HANDED_OVER)
        listens = handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise UserError(f"the passed file descriptor {HANDED_OVER} is not a socket: {error.strerror}") from None
    if not listens or handed.family not in (socket.AF_INET, socket.AF_INET6):
        raise UserError("the passed socket does not listen on TCP: set ListenStream=ADDRESS:PORT and Accept=no")
    return handed


def _shown(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"{in_url(host)}:{port}"
