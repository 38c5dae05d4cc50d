"""A simulation's worker that was killed is replaced: Flower puts the dead one back into its pool.

Each later message that the dead worker is given fails at once, so that the hospitals it would have served are absent
for the rest of the run, which continues without them and ends as completed. Here the current message is lost, the round
names the hospital it was for, and the next round has all of them again.

The simulation's ServerApp is a thread of the process that holds the pool; anywhere else there is nothing to do.
"""

import logging
from typing import Any

from remind_server.flower_internals import simulation_pool

log = logging.getLogger("flwr")


def replace_dead_workers() -> bool:
    """Let the pool of this process's simulation, if there is one, replace workers that died; whether it will.

    A Flower that has no such pool any more keeps its own behaviour.
    """
    pool = simulation_pool()
    if pool is None:
        return False
    from ray.exceptions import RayActorError

    fetch = pool.fetch_result_and_return_actor_to_pool
    if getattr(fetch, "replaces", False):
        return True

    def fetch_or_replace(self: Any, future: Any) -> Any:
        try:
            return fetch(self, future)
        except RayActorError:
            if future in getattr(self, "_future_to_actor", ()):  # the caller puts that actor into the pool
                self._future_to_actor[future] = self.create_actor_fn()
                log.warning("a worker of the simulation was killed (out of memory?); another one takes its place")
            raise

    fetch_or_replace.replaces = True  # type: ignore[attr-defined]
    pool.fetch_result_and_return_actor_to_pool = fetch_or_replace
    return True
