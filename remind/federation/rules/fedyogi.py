"""FedYogi: the coordinator steps with Yogi."""

from torch import Tensor
from typing_extensions import override

from remind.federation.rules.adaptive import Adaptive, AdaptiveOptions
from remind.federation.rules.base import registry


@registry.register(
    "fedyogi",
    title="FedAvg, with Yogi at the coordinator: a second moment that moves by Δ² at most",
    paper="Reddi et al., Adaptive federated optimization",
    year=2021,
    options=AdaptiveOptions,
)
class FedYogi(Adaptive):
    """v ← v − (1 − β₂)·Δ²·sign(v − Δ²): one round with a small update does not make the next steps large."""

    private = True

    @override
    def second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        return v - (1 - self.options.beta2) * square * (v - square).sign()
