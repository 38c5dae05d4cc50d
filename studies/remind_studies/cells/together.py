"""Train the sites of this process together, with the strategy and the client code of a real federation."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from remind.config import Config
from remind.errors import UserError
from remind_client.app import client_app
from remind_client.rounds.site import Site
from remind_server.outputs.records import Observer, RunResult
from remind_server.rounds.strategy import FedRemind
from remind_server.simulation.local_grid import LocalGrid


def train_together(
    config: Config, sites: Sequence[Site], observers: Sequence[Observer] = (), start: Mapping[str, Tensor] | None = None
) -> RunResult:
    """Run the federation of these sites to its end.

    Parameters
    ----------
    start
        Tensors of the initial global model; None: a new one.

    Raises
    ------
    UserError
        A site did not take part to the end.
    """
    app = client_app(lambda context: sites[int(context.node_config["partition-id"])])
    result = FedRemind(config, observers, start).run(LocalGrid(app, len(sites), {}, run_id=1))
    if result.absent:
        raise UserError("; ".join(f"{name}: {reason}" for name, reason in sorted(result.absent.items())))
    return result
