"""Ditto: a personal model close to the global one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pydantic import Field
from torch import Tensor
from torch.nn import Parameter
from typing_extensions import override

from remind.config import NonNegative
from remind.federation.blocks import ENCODERS
from remind.federation.rules.base import Rule, registry
from remind.metrics.statistics import GroupLoss
from remind.registry import Options
from remind.training.local import build_optimizer
from remind.training.work import LocalWork

PERSONAL = "ditto/"


class DittoOptions(Options):
    """How close the personal model stays to the global one."""

    mu: NonNegative = Field(0.1, description="μ of μ/2·‖v − w‖²")


@registry.register(
    "ditto",
    title="global model as in LG/FedAvg, and a personal model at each site near it",
    paper="Li et al., Ditto: fair and robust federated learning through personalization",
    year=2021,
    options=DittoOptions,
)
class Ditto(Rule):
    """w by the local steps, averaged; v ← v − lr·(∇F_s(v) + μ(v − w)) with w as received; v is what the site uses.

    v covers the tensors that travel, encoders where these are shared. Encoders that stay at the site are trained with w
    and shared by both. v takes the same steps as w, by plain gradient descent at the same learning rate, as in the
    paper's equation. F_s is there the mean loss of the site's own patients, on every tensor alike: v is averaged with
    nobody's, so no block of it carries the factor W_s/a_s.
    """

    options: DittoOptions

    @override
    def work(self, work: LocalWork) -> Mapping[int, GroupLoss] | None:
        received, mu = work.received(), self.options.mu
        work.steps()
        config = self.config.train.model_copy(update={"optimizer": "sgd", "weight_decay": 0.0})
        own = build_optimizer(config, work.model, any(p.requires_grad for p in self._encoders(work)))
        with work.replaced(received | self._personal(work)):
            work.steps(toward=received, strength=mu, optimizer=own, only=received.__contains__, alone=True)
            work.kept |= {PERSONAL + name: tensor for name, tensor in work.received().items()}
        return None

    @contextmanager
    def measured(self, work: LocalWork) -> Iterator[None]:
        """Yield with the personal model, if there is one already."""
        with work.replaced(self._personal(work)):
            yield

    def _encoders(self, work: LocalWork) -> list[Parameter]:
        """Return the parameters of encoders that are sent."""
        named = work.named()
        return [named[name] for name in work.travelling if name.startswith(ENCODERS)]

    def _personal(self, work: LocalWork) -> dict[str, Tensor]:
        return {n.removeprefix(PERSONAL): t for n, t in work.kept.items() if n.startswith(PERSONAL)}
