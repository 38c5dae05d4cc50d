"""A heartbeat that no error ends.

Flower's ends for good at the first HTTP 500 (the coordinator's disk full, say): the exception leaves its thread. Here
whatever goes wrong is a beat that failed, and is tried again.
"""

from collections.abc import Callable

from remind_client.flower_internals import HeartbeatSender
from remind_client.supernode.note import tell


class LastingHeartbeat(HeartbeatSender):
    """Flower's `HeartbeatSender`, which tells the supervisor of every beat.

    Parameters
    ----------
    alive
        Whether the loop that does the work goes on. If not, no sign of life is sent: the coordinator shall not take for
        online what answers nothing.
    """

    def __init__(self, heartbeat_fn: Callable[[], bool], alive: Callable[[], bool] = lambda: True) -> None:
        def beat() -> bool:
            if not alive():
                tell("stuck")
                return False
            try:
                well, why = heartbeat_fn(), "no connection"
            except Exception as error:  # whatever the transport raises; the thread must go on
                well, why = False, f"{type(error).__name__}: {error}"
            tell("beat", ok=well, why="" if well else why)
            return well

        super().__init__(beat)
