"""What tests of processes need of this machine: free ports, and to wait until something is so."""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
BUSY = 4  # a machine that does other work too, or is slow, takes so many times as long


def free_ports(number: int) -> list[int]:
    """Different ports of loopback on which nobody listens."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    return free_ports(1)[0]


def until(condition: Callable[[], Found], what: str = "condition", limit: float = 60.0, longest: float = 0.5) -> Found:
    """Look at a condition until it holds; what it returned. Fail after `BUSY` times `limit` seconds.

    At first every few moments, then ever less often, at last every `longest` seconds: looking takes time from what is
    awaited.
    """
    deadline, pause = time.monotonic() + BUSY * limit, 0.05
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {BUSY * limit} s"
        time.sleep(pause)
        pause = min(1.1 * pause, longest)
    return found
