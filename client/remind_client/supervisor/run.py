"""Start SuperNode, SuperExec and warm worker, keep them running, and stop them in order.

At a stop (SIGTERM, SIGINT) the current message is first finished and its answer sent, within at most `drain_seconds`;
an idle SuperNode stops at once. Then all processes are ended, by process group.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from remind.errors import UserError
from remind.processes.child import Child, announce, to_log
from remind.processes.health_page import State, serve_pages
from remind.processes.locks import locked
from remind.processes.private_files import private_folder
from remind.version import VERSION
from remind_client.audit.events import Started, Stopped
from remind_client.audit.note import note_policy
from remind_client.launcher.address import ask_status
from remind_client.launcher.install import install_launchers
from remind_client.retention import prune
from remind_client.site_config import SiteConfig
from remind_client.supervisor.flower import LAUNCHERS, Connection, commands, environment
from remind_client.supervisor.health import site_pages
from remind_client.supervisor.watchdog import Watchdog
from remind_client.vault_begin import make_key, seal_what_is_clear

LOOK = 0.2  # seconds between two checks whether the current message is finished
say = partial(announce, "remind-site")


def run_site(site: SiteConfig, file: Path) -> None:
    """Run a site until it is asked to stop.

    Parameters
    ----------
    file
        Its site.toml.

    Raises
    ------
    UserError
        The site cannot start: no kit, no key, or another process runs on the same state folder.
    """
    kit = site.kit()
    if not site.key_path.is_file():
        raise UserError(f"{site.key_path}: this site's private key is missing; create it with: remind-site init KIT")
    private_folder(site.state_folder)
    with state_lock(site):
        private_folder(site.runs_folder)
        _open_vault(site)
        prune(site.runs_folder, site.retention)
        warm = site.warm and not site.policy.code_bundles
        install_launchers(site.state_folder / LAUNCHERS, site.socket if warm else None)
        _log_start(site)
        surroundings = environment(site, file, site.socket if warm else None)
        connection = Connection()
        lines = commands(site, kit)
        running = Running(
            site,
            connection,
            supernode=Child("supernode", lines["supernode"], surroundings, say, connection.hear),
            superexec=Child("superexec", lines["superexec"], surroundings, say, to_log),
            worker=Child("worker", [sys.executable, "-m", "remind_client.launcher.worker"], surroundings, say, to_log)
            if warm
            else None,
        )
        reason = asyncio.run(running.until_asked())
        site.audit_log.append(Stopped(reason=reason))


@contextmanager
def state_lock(site: SiteConfig) -> Iterator[None]:
    """Lock the site's state folder: only one site runs on it, and no other process rotates its keys.

    Raises
    ------
    UserError
        Another process holds the lock.
    """
    busy = f"{site.state_folder}: a remind-site is running on this state folder; stop it first"
    with locked(site.state_folder / "lock", busy):
        yield


def _open_vault(site: SiteConfig) -> None:
    """Check that the vault can be used, so that a missing key is an error now and not in the first round."""
    if (made := make_key(site)) is not None:
        say(f"created the vault's key {made.id.hex()} in {site.vault_key_path}; keep a copy on another disk")
    if moved := seal_what_is_clear(site).written:
        say(f"encrypted {moved} file(s) that were stored unencrypted")


def _log_start(site: SiteConfig) -> None:
    note_policy(site.audit_log, site.policy.digest)
    site.audit_log.append(Started(site=site.site, version=VERSION, policy=site.policy.digest))


@dataclass
class Running:
    """A running site."""

    site: SiteConfig
    connection: Connection
    supernode: Child
    superexec: Child
    worker: Child | None
    draining: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def children(self) -> list[Child]:
        """The site's programs."""
        return [child for child in (self.worker, self.superexec, self.supernode) if child is not None]

    async def until_asked(self) -> str:
        """Keep everything running until a signal arrives, then stop it; return the reason as a word."""
        asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._ask, asked, number)
        health = await self._health()
        keeping = [asyncio.create_task(child.keep()) for child in self.children]
        watching = asyncio.create_task(Watchdog(self).watch())
        try:
            name = await asked
            watching.cancel()
            finished = await self._drain()
            return f"{name}, {'no work was lost' if finished else 'the current message was abandoned'}"
        finally:
            watching.cancel()
            await asyncio.gather(*(child.stop() for child in self.children))
            await asyncio.gather(*keeping)
            if health is not None:
                health.close()
                await health.wait_closed()

    async def status(self) -> State:
        """Return the content of the health page."""
        worker = await asyncio.to_thread(ask_status, self.site.socket) if self.worker is not None else None
        up = all(child.pid is not None for child in self.children)
        warm = self.worker is None or worker is not None
        return {
            "site": self.site.site,
            "version": VERSION,
            "ready": up and warm and self.connection.in_touch() and not self.draining,
            "draining": self.draining,
            "registered": self.connection.registered,
            "in_touch": self.connection.in_touch(),
            "trouble": self.connection.trouble,
            "refused": self.connection.refused,
            "last_message": self.connection.shown(),
            "message_at_hand": self.connection.at_hand,
            "messages": self.connection.messages,
            "worker": worker,
            "seconds": round(time.monotonic() - self.began, 1),
            "processes": {c.name: {"pid": c.pid, "restarts": c.ends, "last_end": c.last_end} for c in self.children},
        }

    def _ask(self, asked: "asyncio.Future[str]", number: signal.Signals) -> None:
        if not asked.done():
            asked.set_result(signal.Signals(number).name)

    async def _health(self) -> asyncio.Server | None:
        if not self.site.health_port:
            return None
        try:
            server = await serve_pages(self.site.health_port, site_pages(self.status))
        except OSError as error:
            raise UserError(
                f"health_port: cannot listen on {self.site.health_port}: {error.strerror}; set another in site.toml"
            ) from None
        say(f"health page: http://127.0.0.1:{self.site.health_port}/status")
        return server

    async def _drain(self) -> bool:
        """Wait for the current message, with a limit; return whether it was finished."""
        self.draining = True
        if self.connection.at_hand:
            say(f"finishing the current message, for at most {self.site.drain_seconds:g} s")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.site.drain_seconds):
                while self.connection.at_hand and self.supernode.pid is not None:
                    await asyncio.sleep(LOOK)
        return not self.connection.at_hand
