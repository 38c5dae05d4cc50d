"""A simulation's worker that was killed is replaced: Flower 1.41 puts the dead one back into its pool.

Each later message that the dead worker is given fails at once, so that the hospitals it would have served are absent
for the rest of the run, which goes on without them and ends as completed. Here the message at hand is lost, the round
names the hospital it was for, and the next round has all of them again.

The simulation's ServerApp is a thread of the process that holds the pool; anywhere else there is nothing to do.
"""

import logging
import sys
from typing import Any

SIMULATION = "flwr.simulation.run_simulation"  # loaded in the process of a simulation alone
log = logging.getLogger("flwr")


def replace_dead_workers() -> bool:
    """Let the pool of this process's simulation, if there is one, replace workers that died; whether it will.

    A Flower that has no such pool any more keeps its own behaviour.
    """
    if SIMULATION not in sys.modules:
        return False
    try:
        from flwr.simulation.ray_transport.ray_actor import BasicActorPool
        from ray.exceptions import RayActorError
    except ImportError:  # another backend, or another Flower
        return False
    fetch = getattr(BasicActorPool, "fetch_result_and_return_actor_to_pool", None)
    if fetch is None or getattr(fetch, "replaces", False):
        return fetch is not None

    def fetch_or_replace(self: Any, future: Any) -> Any:
        try:
            return fetch(self, future)
        except RayActorError:
            if future in getattr(self, "_future_to_actor", ()):  # whoever caught this puts that actor into the pool
                self._future_to_actor[future] = self.create_actor_fn()
                log.warning("a worker of the simulation was killed (out of memory?); another one takes its place")
            raise

    fetch_or_replace.replaces = True  # type: ignore[attr-defined]
    BasicActorPool.fetch_result_and_return_actor_to_pool = fetch_or_replace  # type: ignore[method-assign]
    return True
