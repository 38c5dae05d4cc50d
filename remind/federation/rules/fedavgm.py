"""FedAvgM: the coordinator steps with momentum."""

from typing import Annotated

from pydantic import Field
from typing_extensions import override

from remind.config import Positive
from remind.federation.rules.base import EVERY, Rule, Tensors, registry
from remind.registry import Options


class FedAvgMOptions(Options):
    """The coordinator's step."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="β of v ← β·v + Δ")
    lr: Positive = Field(1.0, description="learning rate η of θ ← θ + η·v")


@registry.register(
    "fedavgm",
    title="FedAvg, with momentum at the coordinator",
    paper="Hsu et al., Measuring the effects of non-identical data distribution for federated visual classification",
    year=2019,
    options=FedAvgMOptions,
)
class FedAvgM(Rule):
    """v ← β·v + Δ, θ ← θ + η·v, with Δ = (average of the sites' models) − θ and v = 0 before the first round.

    Tensor by tensor: what nobody answered for keeps its value and its v. Encoders may stay at the sites. The momentum
    restarts in stage 2, as the sites' optimisers do. Flower's FedAvgM is the reference.
    """

    private = True
    linear_step = True
    encoders = EVERY
    options: FedAvgMOptions

    @override
    def server_step(self, model: Tensors, average: Tensors, memory: Tensors) -> tuple[Tensors, Tensors]:
        """Take the server's step; the memory is v, by the names of the tensors."""
        velocity = {}
        for name, tensor in average.items():
            delta = tensor.double() - model[name].double()
            velocity[name] = self.options.momentum * memory[name] + delta if name in memory else delta
        moved = {n: (model[n].double() + self.options.lr * v).to(model[n].dtype) for n, v in velocity.items()}
        return moved, {**memory, **velocity}
