"""FedAdam: the coordinator steps with Adam."""

from torch import Tensor
from typing_extensions import override

from remind.federation.rules.adaptive import Adaptive, AdaptiveOptions
from remind.federation.rules.base import registry


@registry.register(
    "fedadam",
    title="FedAvg, with Adam at the coordinator",
    paper="Reddi et al., Adaptive federated optimization",
    year=2021,
    options=AdaptiveOptions,
)
class FedAdam(Adaptive):
    """v ← β₂v + (1 − β₂)Δ², η_t = η·√(1 − β₂^{t+1})/(1 − β₁^{t+1}).

    η_t is Adam's correction as Flower's FedAdam has it, which is the reference; the paper has none.
    """

    private = True

    @override
    def second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        return self.options.beta2 * v + (1 - self.options.beta2) * square

    @override
    def rate(self, t: int) -> float:
        own = self.options
        return float(own.lr * (1 - own.beta2 ** (t + 1)) ** 0.5 / (1 - own.beta1 ** (t + 1)))
