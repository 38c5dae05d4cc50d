"""What several test modules share."""

from collections.abc import Callable, Sequence

from flwr.app import Message

from remind_client.app import client_app
from remind_client.site import Site
from remind_server.simulation.local_grid import LocalGrid, at_once


class SiteGrid(LocalGrid):
    """An in-process grid over `Site` objects made by a test, in place of virtual hospitals."""

    def __init__(self, sites: Sequence[Site], seconds_to_answer: Callable[[Message], float] = at_once) -> None:
        app = client_app(lambda context: sites[int(context.node_config["partition-id"])])
        super().__init__(app, len(sites), {}, run_id=1, seconds_to_answer=seconds_to_answer)
