"""The job in Flower: its FedAvg on its own simulation engine (Ray)."""

import os

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from peers.job import Job, Record, given, load, taken
from remind.training.site_model import SiteModel

ONE_CPU = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
_jobs: dict[Job, tuple[Job, SiteModel]] = {}  # of this process


def client_of(job: Job) -> ClientApp:
    """Return the client: a site's round."""
    client = ClientApp()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        own, model = _kept(job)
        load(model, message.content["arrays"].to_torch_state_dict())
        round_ = int(message.content["config"]["server-round"]) - 1
        loss, patients = own.train(model, int(context.node_config["partition-id"]), round_)
        metrics = MetricRecord({"train-loss": loss, "num-examples": patients})
        return Message(RecordDict({"arrays": ArrayRecord(taken(model)), "metrics": metrics}), reply_to=message)

    return client


def _kept(job: Job) -> tuple[Job, SiteModel]:
    """Return the job and the model of this process, which serves several sites."""
    if job not in _jobs:
        given([os.environ["PEERS_JOB"], "."])  # threads and memory as elsewhere
        _jobs[job] = job, job.model()
    return _jobs[job]


def main(job: Job, record: Record) -> None:
    """Do the job."""
    server = ServerApp()

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=job.sites, min_available_nodes=job.sites)

        def evaluated(round_: int, arrays: ArrayRecord) -> None:
            if round_:
                record.round_done()

        first = ArrayRecord(taken(job.model()))
        result = strategy.start(grid, first, job.rounds, evaluate_fn=evaluated)
        record.finish(result.arrays.to_torch_state_dict())

    run_simulation(server, client_of(job), job.sites, backend_config=ONE_CPU)


if __name__ == "__main__":
    main(*given())
