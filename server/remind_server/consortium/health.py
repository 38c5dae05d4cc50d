"""Health of a running consortium: asks the processes, and serves the result on loopback for supervisors."""

import asyncio
import http.client
import ssl
from collections.abc import Callable

from remind.errors import UserError
from remind.processes.health_page import State, live, serve_pages
from remind_server.consortium.folder import Folder

OK = "ok"
_WAIT = 5.0  # seconds for an answer
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def superlink_health(folder: Folder) -> str:
    """Return `OK`, or the SuperLink's problem."""
    trust = ssl.create_default_context(cafile=str(folder.loopback_ca))
    return _expect(200, "127.0.0.1", folder.settings.local.superlink, "localhost", trust, "/health")


def proxy_health(folder: Folder) -> str:
    """Return `OK` if hospitals accept the proxy's certificate and the proxy blocks every other path."""
    settings = folder.settings
    trust = ssl.create_default_context(cafile=str(folder.trust))
    address = _LOOPBACK.get(settings.proxy.address, settings.proxy.address)
    return _expect(403, address, settings.proxy.port, settings.public.hosts[0], trust, "/health")


async def health_page(port: int, report: Callable[[], dict[str, str]]) -> asyncio.Server:
    """Serve ``/health`` on loopback: 200 if all parts are `OK`, else 503; JSON of the parts.

    ``/live`` is 200 while this process answers: it restarts its children itself and needs no new container.

    Raises
    ------
    UserError
        The port is taken.
    """

    async def health() -> tuple[bool, State]:
        parts = await asyncio.to_thread(report)  # asks the processes; takes seconds if they do not answer
        return set(parts.values()) == {OK}, parts

    try:
        return await serve_pages(port, {"/health": health, "/live": live})
    except OSError as error:
        raise UserError(f"local.health: cannot listen on port {port}: {error.strerror}") from None


class _Named(http.client.HTTPSConnection):
    """Connects to an address but verifies the certificate against another name."""

    def __init__(self, address: str, port: int, name: str, trust: ssl.SSLContext) -> None:
        super().__init__(address, port, timeout=_WAIT)
        self.name, self.trust = name, trust

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self.trust.wrap_socket(self.sock, server_hostname=self.name)


def _expect(status: int, address: str, port: int, name: str, trust: ssl.SSLContext, path: str) -> str:
    connection = _Named(address, port, name, trust)
    try:
        connection.request("GET", path)
        seen = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error}"
    finally:
        connection.close()
    return OK if seen == status else f"answered {seen}"
