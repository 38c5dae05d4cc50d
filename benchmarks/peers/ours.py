"""The job in this project: in this process, as `remind simulate` does it, or under Flower's Ray backend."""

import sys
from collections.abc import Mapping
from pathlib import Path

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from torch import Tensor
from typing_extensions import override

from peers.job import Job, Record, given
from remind.config import Config
from remind_client.app import client_app
from remind_client.load import Identity, load_site, prepare_process
from remind_client.rounds.site import Site
from remind_server.outputs.records import Observer, RoundRecord, RunResult
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.checkpoints import Checkpoints
from remind_server.rounds.strategy import FedRemind
from remind_server.simulation.simulate import simulate


class Watch(Observer):
    """Notes the end of each round, and the final model."""

    def __init__(self, record: Record) -> None:
        self.record = record

    @override
    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        if record.absent:
            raise ValueError(f"not all sites answered: {dict(record.absent)}")
        self.record.round_done()

    @override
    def finished(self, result: RunResult) -> None:
        self.record.finish(result.tensors)


def settings(job: Job, record: Record) -> tuple[Config, Path]:
    """Return the run's settings, with a results folder, as every run has one."""
    folder = record.folder / "results"
    return job.config.model_copy(update={"results": str(folder)}), folder


def in_process(job: Job, record: Record) -> None:
    """Do the job as `remind simulate` does it: with its results folder and its checkpoints."""
    config, folder = settings(job, record)
    simulate(config, job.sites, [RunFolder(folder), Watch(record)], checkpoints=Checkpoints(folder))


def on_ray(job: Job, record: Record) -> None:
    """Do the job with the same code on Flower's simulation engine."""
    from flwr.simulation import run_simulation

    config, folder = settings(job, record)
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        FedRemind(config, [RunFolder(folder), Watch(record)], checkpoints=Checkpoints(folder)).run(grid)

    run_simulation(server, _client(config), job.sites, backend_config=ONE_CPU)


ONE_CPU = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
_sites: dict[int, Site] = {}


def _client(config: Config) -> ClientApp:
    def site_of(context: Context) -> Site:
        identity = Identity.of(context.node_config)
        prepare_process(config.threads)
        if context.node_id not in _sites:
            _sites[context.node_id] = load_site(identity, config, context.run_id)
        return _sites[context.node_id]

    return client_app(site_of)


if __name__ == "__main__":
    (on_ray if "ray" in sys.argv[3:] else in_process)(*given())
