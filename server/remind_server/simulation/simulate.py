"""`remind simulate`: the whole federation in this process, on the same strategy and client code, without Ray."""

import importlib
import secrets
from collections.abc import Sequence

from flwr.clientapp import ClientApp

from remind.config import Config
from remind_server.outputs.records import Observer, RunResult
from remind_server.rounds.checkpoints import Checkpoints
from remind_server.rounds.strategy import FedRemind
from remind_server.simulation.local_grid import LocalGrid

CLIENT = "remind_client.app:app"  # a reference, as in a Flower app: the coordinator imports nothing of a hospital


def simulate(
    config: Config,
    clients: int,
    observers: Sequence[Observer] = (),
    client: str = CLIENT,
    checkpoints: Checkpoints | None = None,
) -> RunResult:
    """Run a federation of `clients` virtual hospitals in this process, or resume it (``run.resume``).

    The sites keep their encoders under ``config.results``, which must be a folder of this run's own.
    """
    module, _, attribute = client.partition(":")
    app: ClientApp = getattr(importlib.import_module(module), attribute)
    grid = LocalGrid(app, clients, config.flat(), run_id=secrets.randbits(62))
    return FedRemind(config, observers, checkpoints=checkpoints).run(grid)
