"""Ditto: a personal model near the global one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pydantic import Field
from torch import Tensor

from remind.config import NonNegative, Section
from remind.federation.rules.base import Rule, registry
from remind.metrics.statistics import GroupLoss
from remind.training.local import build_optimizer
from remind.training.work import LocalWork

PERSONAL = "ditto/"


class DittoOptions(Section):
    """How near the personal model stays."""

    mu: NonNegative = Field(0.1, description="μ of μ/2·‖v − w‖²")


@registry.register(
    "ditto",
    title="global model as in LG/FedAvg, and a personal one at each site held near it",
    paper="Li et al., Ditto: fair and robust federated learning through personalization",
    year=2021,
    options=DittoOptions,
)
class Ditto(Rule):
    """w by the local steps, averaged; v ← v − lr·(∇F_s(v) + μ(v − w)) with w as received; v is what the site uses.

    v covers the tensors that travel. Encoders that stay at the site are trained with w and shared by both. v takes the
    same steps as w, by plain gradient descent at the same learning rate, as in the paper's equation.
    """

    options: DittoOptions

    def work(self, work: LocalWork) -> Mapping[int, GroupLoss] | None:
        """See `Rule`."""
        received = work.received()
        work.steps()
        trained = work.received()
        work.load(received | self._personal(work))
        config = self.config.train.model_copy(update={"optimizer": "sgd", "weight_decay": 0.0})
        own = build_optimizer(config, work.model, train_encoders=False)
        work.steps(toward=received, strength=self.options.mu, optimizer=own, only=received.__contains__)
        work.kept |= {PERSONAL + name: tensor for name, tensor in work.received().items()}
        work.load(trained)
        return None

    @contextmanager
    def measured(self, work: LocalWork) -> Iterator[None]:
        """The personal model, once there is one."""
        received = work.received()
        work.load(self._personal(work))
        try:
            yield
        finally:
            work.load(received)

    def _personal(self, work: LocalWork) -> dict[str, Tensor]:
        return {n.removeprefix(PERSONAL): t for n, t in work.kept.items() if n.startswith(PERSONAL)}
