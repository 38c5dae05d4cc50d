"""q-fair federated learning: q-FedAvg."""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from remind.config import NonNegative
from remind.federation.aggregation import BlockAverage, Reply
from remind.federation.blocks import block_of
from remind.federation.rules.base import Rule, registry
from remind.registry import Options


class QFFLOptions(Options):
    """How strongly sites with a higher loss count."""

    q: NonNegative = Field(1.0, description="q of Σ_s p_s·F_s^{q+1}/(q+1); 0 is FedAvg")


@registry.register(
    "qffl",
    title="sites with higher loss get more weight: q-FedAvg",
    paper="Li et al., Fair resource allocation in federated learning",
    year=2020,
    options=QFFLOptions,
)
class QFFL(Rule):
    """θ ← θ − Σ_s F_s^q Δ_s / Σ_s h_s, Δ_s = L(θ − θ_s), h_s = q·F_s^{q−1}‖Δ_s‖² + L·F_s^q, with L = 1/lr.

    Sites are the units; each one's Δ and h carry its weight a_s in the average of the block, which is p_s = n_s/n for
    shared tensors. A site's gradient at a block is p_s∇F_s/a_s (`federation.weights`), so Σ_s a_s F_s^q Δ_s is the
    gradient of Σ_s p_s·F_s^{q+1}/(q+1) on every kind of block, and q = 0 is FedAvg. ‖Δ_s‖² runs over all tensors that
    the site was sent, as the paper's runs over the whole model; with plain SGD it is taken of ∇F_s, without p_s/a_s,
    while an optimiser such as Adam forgets the factor. `lr` is the learning rate of stage 1.
    """

    weighs = True
    options: QFFLOptions

    @override
    def combiner(self) -> BlockAverage:
        train = self.config.train
        return QFedAvg(self.options.q, 1 / train.lr, scaled=train.optimizer == "sgd")


class QFedAvg(BlockAverage):
    """Running sums of a·F^q·Δ and of h; tensors of a block are summed over the sites that carry it.

    Parameters
    ----------
    q, lipschitz
        q, and L.
    scaled
        Whether a site's updates are in proportion to its gradients, and so hold the factor p_s/a_s.
    """

    def __init__(self, q: float, lipschitz: float, scaled: bool = True) -> None:
        super().__init__()
        self.q, self.lipschitz, self.scaled = q, lipschitz, scaled
        self._pull: dict[str, Tensor] = {}
        self._curvature: dict[str, float] = {}

    @override
    def take(self, reply: Reply) -> None:
        sent, losses, chance = reply.sent, reply.losses, reply.chance
        if sent is None or not losses:
            raise ValueError("q-FedAvg needs the model that was sent, and the losses on it")
        weight = {name: reply.weights.get(block_of(name), 0.0) for name in reply.tensors}
        undo = {name: a / reply.weights["shared"] if self.scaled else 1.0 for name, a in weight.items()}
        loss = sum(one.loss_sum for one in losses.values()) / sum(one.count for one in losses.values())
        loss = max(loss, 1e-10)
        delta = {n: self.lipschitz * (sent[n].double() - tensor.double()) for n, tensor in reply.tensors.items()}
        norm = sum(undo[name] ** 2 * float(d.square().sum()) for name, d in delta.items())
        h = self.q * loss ** (self.q - 1) * norm + self.lipschitz * loss**self.q
        for name, d in delta.items():
            self._pull[name] = self._pull.get(name, torch.zeros_like(d)).add_(
                d, alpha=weight[name] / chance * loss**self.q
            )
            self._curvature[name] = self._curvature.get(name, 0.0) + weight[name] / chance * h

    def average(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors that replies carried, after the step; dtypes do not change."""
        return {
            name: (tensor.double() - self._pull[name] / self._curvature[name]).to(tensor.dtype)
            for name, tensor in tensors.items()
            if self._curvature.get(name)
        }
