"""Restarts processes that hang: a SuperNode without output, a worker that does not answer."""

import asyncio
from typing import Protocol

from remind.processes.child import Child
from remind_client.launcher.address import ask_status
from remind_client.site_config import SiteConfig
from remind_client.supervisor.flower import Connection

LOOK = 1.0  # seconds between two checks
SILENCE = 75.0  # seconds without a note of the SuperNode, which notes each heartbeat it tries, every 23 s at most
MUTE = 60.0  # seconds in which a worker that has answered before does not


class Watched(Protocol):
    """The part of `run.Running` that the watchdog uses."""

    site: SiteConfig
    connection: Connection
    supernode: Child
    superexec: Child
    worker: Child | None


class Watchdog:
    """Watches the programs of a site.

    When a SuperNode ends, its tasks must end too. So the SuperExec is restarted, which ends a task in a separate
    process, and the worker is restarted if it works on a task.
    """

    def __init__(self, site: Watched) -> None:
        self.site = site
        self._ends = site.supernode.ends
        self._answered: tuple[int, float] | None = None  # the worker's process id, and when it last answered

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            await self._look_at_supernode()
            await self._look_at_worker()

    async def _look_at_supernode(self) -> None:
        site = self.site
        silent, stuck = site.connection.silent(SILENCE), site.connection.stuck
        if site.supernode.pid is not None and (silent or stuck):
            site.connection.heard, site.connection.stuck = None, False
            await site.supernode.restart("its loop is stuck" if stuck else f"it wrote no output for {SILENCE:g} s")
        if site.supernode.ends == self._ends:
            return
        self._ends = site.supernode.ends
        site.connection.registered = site.connection.at_hand = False
        await site.superexec.restart("the SuperNode ended, and its tasks with it")
        if site.worker is not None:
            status = await asyncio.to_thread(ask_status, site.site.socket)
            if status is not None and status.get("busy_seconds") is not None:
                await site.worker.restart("its task's SuperNode has ended")

    async def _look_at_worker(self) -> None:
        worker = self.site.worker
        if worker is None or (pid := worker.pid) is None:
            return
        now = asyncio.get_running_loop().time()
        if await asyncio.to_thread(ask_status, self.site.site.socket) is not None:
            self._answered = pid, now
        elif self._answered is not None and self._answered[0] == pid and now - self._answered[1] > MUTE:
            self._answered = None
            await worker.restart(f"it has not answered for {MUTE:g} s")
