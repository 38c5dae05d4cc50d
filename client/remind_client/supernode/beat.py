"""A heartbeat that no error ends.

Flower's heartbeat stops at the first HTTP 500 (for example, if the coordinator's disk is full), because the exception
ends its thread. Here every error is a failed heartbeat, and the next one follows.
"""

from collections.abc import Callable

from remind_client.flower_internals import HeartbeatSender
from remind_client.supernode.note import tell


class LastingHeartbeat(HeartbeatSender):
    """Flower's `HeartbeatSender`, which also reports every heartbeat to the supervisor.

    Parameters
    ----------
    alive
        Whether the main loop makes progress. If not, no heartbeat is sent, so that the coordinator does not regard a
        stuck site as online.
    """

    def __init__(self, heartbeat_fn: Callable[[], bool], alive: Callable[[], bool] = lambda: True) -> None:
        def beat() -> bool:
            if not alive():
                tell("stuck")
                return False
            try:
                well, why = heartbeat_fn(), "no connection"
            except Exception as error:  # the transport may raise anything; the thread must continue
                well, why = False, f"{type(error).__name__}: {error}"
            tell("beat", ok=well, why="" if well else why)
            return well

        super().__init__(beat)
