"""FedAdam: the coordinator steps with Adam."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from remind.config import Positive
from remind.federation.blocks import block_of
from remind.federation.rules.base import EVERY, Rule, Tensors, registry
from remind.registry import Options

Beta = Annotated[float, Field(ge=0, lt=1)]
# Prefixes of the names of m and v of a tensor, and of t of a block.
FIRST, SECOND, STEPS = "first/", "second/", "steps/"


class FedAdamOptions(Options):
    """The coordinator's step; the paper's values."""

    lr: Positive = Field(0.01, description="learning rate η")
    beta1: Beta = Field(0.9, description="β₁ of m ← β₁·m + (1 − β₁)·Δ")
    beta2: Beta = Field(0.99, description="β₂ of v ← β₂·v + (1 − β₂)·Δ²")
    tau: Positive = Field(0.001, description="τ of m/(√v + τ): degree of adaptivity")


@registry.register(
    "fedadam",
    title="FedAvg, with Adam at the coordinator",
    paper="Reddi et al., Adaptive federated optimization",
    year=2021,
    options=FedAdamOptions,
)
class FedAdam(Rule):
    """m ← β₁m + (1 − β₁)Δ, v ← β₂v + (1 − β₂)Δ², θ ← θ + η_t·m/(√v + τ), Δ = (average of the sites) − θ.

    η_t = η·√(1 − β₂^{t+1})/(1 − β₁^{t+1}), Adam's correction as Flower's FedAdam has it, which is the reference; the
    paper has none. t counts the rounds that moved a *block*, from 1: a group's Φ_k and B_k that nobody observed for a
    round keep their value, m, v and t. Encoders may stay at the sites. All begins anew in stage 2, as the sites'
    optimisers do.
    """

    encoders = EVERY
    options: FedAdamOptions

    @override
    def server_step(self, model: Tensors, average: Tensors, memory: Tensors) -> tuple[Tensors, Tensors]:
        own, fresh, moved = self.options, dict[str, Tensor](), dict[str, Tensor]()
        for block in {block_of(name) for name in average}:
            fresh[STEPS + block] = memory.get(STEPS + block, torch.zeros((), dtype=torch.int64)) + 1
        for name, tensor in average.items():
            delta = tensor.double() - model[name].double()
            nothing, t = torch.zeros_like(delta), int(fresh[STEPS + block_of(name)])
            first = own.beta1 * memory.get(FIRST + name, nothing) + (1 - own.beta1) * delta
            second = own.beta2 * memory.get(SECOND + name, nothing) + (1 - own.beta2) * delta.square()
            rate = own.lr * (1 - own.beta2 ** (t + 1)) ** 0.5 / (1 - own.beta1 ** (t + 1))
            moved[name] = (model[name].double() + rate * first / (second.sqrt() + own.tau)).to(model[name].dtype)
            fresh |= {FIRST + name: first, SECOND + name: second}
        return moved, {**memory, **fresh}
