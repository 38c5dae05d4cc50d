"""The site's health page: liveness, readiness, status. It shows no patient data and no counts.

``/live`` 200 while the supervisor runs; ``/ready`` 200 when all processes run and the coordinator knows the site, else
503; ``/status`` everything, as JSON.
"""

from collections.abc import Awaitable, Callable

from remind.processes.health_page import Pages, State, live


def site_pages(status: Callable[[], Awaitable[State]]) -> Pages:
    """Return the pages of a site; `status` returns its state, whose ``ready`` decides ``/ready``."""

    async def ready() -> tuple[bool, State]:
        well = bool((await status())["ready"])
        return well, {"ready": well}

    async def everything() -> tuple[bool, State]:
        return True, await status()

    return {"/live": live, "/ready": ready, "/status": everything}
