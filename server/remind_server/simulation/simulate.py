"""`remind simulate`: the whole federation in this process, on the same strategy and client code, without Ray."""

import importlib
import os
import secrets
from collections.abc import Sequence
from functools import partial

import torch
from flwr.clientapp import ClientApp

from remind.config import Config
from remind.data.sites.hospitals import virtual_hospitals
from remind_server.outputs.records import Observer, RunResult
from remind_server.rounds.checkpoints import Checkpoints
from remind_server.rounds.strategy import FedRemind
from remind_server.simulation.local_grid import LocalGrid
from remind_server.simulation.worker_grid import WorkerGrid

CLIENT = "remind_client.app:app"  # a reference, as in a Flower app: the coordinator imports nothing of a hospital


def simulate(
    config: Config,
    clients: int,
    observers: Sequence[Observer] = (),
    client: str = CLIENT,
    checkpoints: Checkpoints | None = None,
    jobs: int = 1,
) -> RunResult:
    """Run a federation of `clients` virtual hospitals in this process, or resume it (``run.resume``).

    The sites keep their encoders under ``config.results``, which must be a folder of this run's own.

    Parameters
    ----------
    jobs
        Hospitals that work at a time, each in a process of its own; 1: in this process. The result is the same.
    """
    if jobs > 1 and clients > 1:
        torch.set_num_threads(config.threads or os.cpu_count() or 1)  # as hospitals in this process would
        load = partial(virtual_hospitals, config.data, config.synthetic, config.seed, clients)
        with WorkerGrid(client, clients, config.flat(), secrets.randbits(62), jobs, load) as workers:
            return FedRemind(config, observers, checkpoints=checkpoints).run(workers)
    module, _, attribute = client.partition(":")
    app: ClientApp = getattr(importlib.import_module(module), attribute)
    grid = LocalGrid(app, clients, config.flat(), run_id=secrets.randbits(62))
    return FedRemind(config, observers, checkpoints=checkpoints).run(grid)
