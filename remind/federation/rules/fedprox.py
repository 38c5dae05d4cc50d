"""FedProx: FedAvg with a penalty on the distance to the received model."""

from pydantic import Field
from typing_extensions import override

from remind.config import NonNegative
from remind.federation.rules.base import EVERY, Rule, registry
from remind.metrics.statistics import GroupLoss
from remind.registry import Options
from remind.training.work import LocalWork


class FedProxOptions(Options):
    """The strength of the penalty."""

    mu: NonNegative = Field(0.01, description="μ of μ/2·‖θ − θ_received‖²")


@registry.register(
    "fedprox",
    title="FedAvg, with a penalty on the distance to the received model",
    paper="Li et al., Federated optimization in heterogeneous networks",
    year=2020,
    options=FedProxOptions,
)
class FedProx(Rule):
    """Local objective F_s(θ) + μ/2·‖θ − θ_received‖² over the tensors that are sent; averaged as in FedAvg or LG.

    Encoders may stay local; then the penalty covers only the shared tensors.
    """

    private = True
    encoders = EVERY
    options: FedProxOptions

    @override
    def work(self, work: LocalWork) -> dict[int, GroupLoss] | None:
        work.steps(toward=work.received(), strength=self.options.mu)
        return None
