"""The job in pfl-research: federated averaging on its simulated backend, one process."""

from collections.abc import Iterator
from typing import Any

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn

from peers.job import Job, Record, given, loss_of, taken
from remind.data.batches.batch import Batch


class Module(nn.Module):
    """The job's model, as pfl wants it: with a loss of tensors."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.model = job.model()
        self.names = tuple(self.model.counts)

    def loss(self, *tensors: Tensor) -> Tensor:
        """Return the loss of a batch."""
        self.model.train()
        index_B, group_B, presence_Bm, label_B, *values = tensors
        return loss_of(
            self.model, Batch(index_B, group_B, presence_Bm, label_B, dict(zip(self.names, values, strict=True)))
        )

    def metrics(self, *tensors: Tensor) -> dict[str, Any]:
        """Return nothing: the job measures in `Algorithm`."""
        return {}


class SiteDataset(Dataset):
    """A site's patients; its batches are those of the job's round."""

    def __init__(self, job: Job, number: int, algorithm: "Algorithm") -> None:
        super().__init__((), user_id=str(number))
        self.job, self.number, self.algorithm = job, number, algorithm

    def __len__(self) -> int:
        return len(self.job.site(self.number).rows)

    def iter(self, batch_size: int | None) -> Iterator[list[Tensor]]:
        """Yield the batches of the round under way."""
        for batch in self.job.batches(self.job.site(self.number), self.algorithm.round):
            values = [batch.inputs[name] for name in self.job.site(self.number).cohort.schema.names]
            yield [batch.index_B, batch.group_B, batch.presence_Bm, batch.label_B, *values]


class Algorithm(FederatedAveraging):
    """Federated averaging, which measures the received model before it trains, as the job says."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job, self.round = job, 0

    def train_one_user(self, initial_model_state: Any, model: Any, user_dataset: Any, central_context: Any) -> Any:
        """Measure, then train."""
        self.round = central_context.current_central_iteration
        self.job.measure(model.pytorch_model.model, self.job.site(user_dataset.number))
        return super().train_one_user(initial_model_state, model, user_dataset, central_context)


class Watch(TrainingProcessCallback):
    """Notes the end of each round."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def after_central_iteration(self, aggregate_metrics: Any, model: Any, *, central_iteration: int) -> Any:
        """Note the time."""
        self.record.round_done()
        return False, Metrics()


def main(job: Job, record: Record) -> None:
    """Do the job."""
    module, algorithm = Module(job), Algorithm(job)
    order = iter(range(job.sites * job.rounds))
    data = FederatedDataset(lambda number: SiteDataset(job, number, algorithm), lambda: next(order) % job.sites)
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    algorithm.run(
        NNAlgorithmParams(
            central_num_iterations=job.rounds,
            evaluation_frequency=job.rounds + 1,
            train_cohort_size=job.sites,
            val_cohort_size=0,
        ),
        SimulatedBackend(data, data, [WeightByDatapoints()]),
        model,
        NNTrainHyperParams(
            local_batch_size=job.batch, local_num_epochs=None, local_num_steps=job.steps, local_learning_rate=job.rate
        ),
        NNEvalHyperParams(local_batch_size=job.batch),
        [Watch(record)],
    )
    record.finish(taken(module.model))


if __name__ == "__main__":
    main(*given())
