"""Adaptive steps at the coordinator (Reddi et al. 2021): two moments of the averaged update, and a step scaled by them.

A rule is a file beside this one: it says how the second moment follows the update, and how fast a step is.
"""

from abc import abstractmethod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from remind.config import Positive
from remind.federation.blocks import block_of
from remind.federation.rules.base import EVERY, Rule, Tensors
from remind.registry import Options

Beta = Annotated[float, Field(ge=0, lt=1)]
# Prefixes of the names of m and v of a tensor, and of t of a block.
FIRST, SECOND, STEPS = "first/", "second/", "steps/"


class AdaptiveOptions(Options):
    """The coordinator's step; the paper's values."""

    lr: Positive = Field(0.01, description="learning rate η")
    beta1: Beta = Field(0.9, description="β₁ of m ← β₁·m + (1 − β₁)·Δ")
    beta2: Beta = Field(0.99, description="β₂ of the second moment v")
    tau: Positive = Field(0.001, description="τ of m/(√v + τ): degree of adaptivity")


class Adaptive(Rule):
    """m ← β₁m + (1 − β₁)Δ, v ← `second_moment`, θ ← θ + η_t·m/(√v + τ), Δ = (average of the sites) − θ.

    t counts the rounds that moved a *block*, from 1: a group's Φ_k and B_k that nobody observed for a round keep their
    value, m, v and t. m and v begin at 0, as in Flower, whose strategies are the reference. Encoders may stay at the
    sites. Everything restarts in stage 2, as the sites' optimisers do.
    """

    encoders = EVERY
    options: AdaptiveOptions

    @abstractmethod
    def second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        """Return v after a round, from v before it and Δ²; float64."""

    def rate(self, t: int) -> float:
        """Return η_t of a block's t-th step."""
        return self.options.lr

    @override
    def server_step(self, model: Tensors, average: Tensors, memory: Tensors) -> tuple[Tensors, Tensors]:
        own, fresh, moved = self.options, dict[str, Tensor](), dict[str, Tensor]()
        for block in {block_of(name) for name in average}:
            fresh[STEPS + block] = memory.get(STEPS + block, torch.zeros((), dtype=torch.int64)) + 1
        for name, tensor in average.items():
            delta = tensor.double() - model[name].double()
            nothing, rate = torch.zeros_like(delta), self.rate(int(fresh[STEPS + block_of(name)]))
            first = own.beta1 * memory.get(FIRST + name, nothing) + (1 - own.beta1) * delta
            second = self.second_moment(memory.get(SECOND + name, nothing), delta.square())
            moved[name] = (model[name].double() + rate * first / (second.sqrt() + own.tau)).to(model[name].dtype)
            fresh |= {FIRST + name: first, SECOND + name: second}
        return moved, {**memory, **fresh}
