"""``remind consortium serve``: keeps SuperLink, SuperExec and proxy running, and ends them together."""

import asyncio
import hashlib
import os
import signal
from collections.abc import Mapping, Sequence
from functools import partial

from remind.alerts.sending import Sender
from remind.alerts.settings import read_alerts
from remind.errors import UserError
from remind.processes.child import Child, Patience, announce
from remind.processes.private_files import private_folder
from remind_server.consortium import PASSPHRASE
from remind_server.consortium.alerting import tell_of_certificates
from remind_server.consortium.certificates import warnings
from remind_server.consortium.flower import (
    UnreachableError,
    control,
    environment,
    superexec_command,
    superlink_command,
    write_connection,
)
from remind_server.consortium.folder import Folder
from remind_server.consortium.health import OK, health_page, proxy_health, superlink_health
from remind_server.consortium.lost_runs import close_lost_runs
from remind_server.consortium.preflight import require_servable, write_pids
from remind_server.consortium.proxy import write_proxy

LOOK = 10.0  # seconds between two checks of the server certificate, and of lost runs
REMIND = 24 * 3600.0  # seconds between two warnings
PATIENCE = Patience(
    longest=30.0, steady=60.0, grace=15.0
)  # hospitals wait during this time; a ServerApp needs time to end
say = partial(announce, "remind consortium")


def serve(folder: Folder) -> None:
    """Serve until SIGTERM or SIGINT, then end all started processes.

    Raises
    ------
    UserError
        A check failed, or ``alerts.toml`` is wrong; nothing has been started.
    """
    os.environ.pop(PASSPHRASE, None)  # only for `init` and `renew`; processes that run apps must not see it
    with folder.locked("serve", "is being served already; end that process first"):
        require_servable(folder)
        for path in (folder.run, folder.flower_home, folder.database.parent):
            private_folder(path)
        write_connection(folder)
        asyncio.run(_Served(folder).run())


class _Served:
    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.sender = Sender(read_alerts(folder.root))
        flower = environment(folder)
        programs: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {
            "superlink": (superlink_command(folder), {"FLWR_LOG_LEVEL": "WARNING", **flower}),  # else every call
            "superexec": (superexec_command(folder), flower),
        }
        self.has_proxy = folder.settings.proxy.kind == "nginx"
        if self.has_proxy:
            programs["proxy"] = write_proxy(folder), dict(os.environ)
        self.children = {
            name: Child(name, command, surroundings, say, on_start=self._write_pids, patience=PATIENCE)
            for name, (command, surroundings) in programs.items()
        }

    async def run(self) -> None:
        """Run all processes until a signal arrives."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        settings = self.folder.settings
        page = await health_page(settings.local.health, self.report)
        keeping = {name: loop.create_task(child.keep()) for name, child in self.children.items()}
        watching = [
            loop.create_task(task)
            for task in (self._greet(), self._watch_certificate(), self._warn(), self._watch_runs())
        ]
        say(f"consortium {settings.name!r} for hospitals at {settings.address}; SuperLink on {settings.superlink}")
        asked = loop.create_task(stop.wait())
        await asyncio.wait([asked, *keeping.values()], return_when=asyncio.FIRST_COMPLETED)
        say("ending")
        for task in (asked, *watching):
            task.cancel()
        for name in reversed(keeping):  # the proxy first, so that no hospital's call fails half-way behind it
            await self.children[name].stop()
            await asyncio.wait([keeping[name]])
        await asyncio.to_thread(self.sender.close, 5.0)
        page.close()
        await page.wait_closed()
        for task in keeping.values():
            task.result()  # raises unexpected errors
        say("ended")

    def report(self) -> dict[str, str]:
        """Return the state of every part."""
        parts = {name: OK if child.pid is not None else "not running" for name, child in self.children.items()}
        if parts["superlink"] == OK:
            parts["superlink"] = superlink_health(self.folder)
        if parts.get("proxy") == OK:
            parts["proxy"] = proxy_health(self.folder)
        return parts

    async def _greet(self) -> None:
        while set((await asyncio.to_thread(self.report)).values()) != {OK}:
            await asyncio.sleep(0.5)
        say("all is up")

    async def _watch_certificate(self) -> None:
        """Let nginx reload a renewed certificate; open connections continue."""
        seen = _digest(self.folder)
        while self.has_proxy:
            await asyncio.sleep(LOOK)
            now = _digest(self.folder)
            if now and now != seen:
                seen = now
                say("the server certificate was renewed; the proxy reloads it")
                self.children["proxy"].signal(signal.SIGHUP)

    async def _watch_runs(self) -> None:
        """Close the records of runs whose process is gone, and tell of them."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                for text in await asyncio.to_thread(self._close_lost_runs):
                    say(f"warning: {text}")
            except UnreachableError:  # it is restarted
                continue
            except UserError as error:
                say(f"warning: {error}")

    def _close_lost_runs(self) -> list[str]:
        with control(self.folder) as link:
            return close_lost_runs(self.folder, link, self.sender)

    async def _warn(self) -> None:
        while True:
            try:
                texts = warnings(self.folder)
                await asyncio.to_thread(tell_of_certificates, self.folder, self.sender)
            except UserError as error:  # a file is damaged now; continue to serve
                texts = [str(error)]
            for text in texts:
                say(f"warning: {text}")
            await asyncio.sleep(REMIND)

    def _write_pids(self) -> None:
        write_pids(self.folder, {name: c.pid for name, c in self.children.items() if c.pid is not None})


def _digest(folder: Folder) -> str:
    """Return the hash of the server certificate's file; empty while it cannot be read."""
    try:
        return hashlib.sha256(folder.server.read_bytes()).hexdigest()
    except OSError:
        return ""
