"""Averages block by block as replies arrive, so memory does not grow with the number of sites."""

from collections.abc import Mapping

import torch
from torch import Tensor

from remind.federation.blocks import block_of
from remind.metrics.statistics import GroupLoss


class BlockAverage:
    """Σ_s a_s·θ_s / Σ_s a_s of every tensor over the replies that carry its block (algorithm §3).

    Sums are kept in float64. A block that is in no reply stays unchanged.
    """

    def __init__(self) -> None:
        self._sum: dict[str, Tensor] = {}
        self._weight: dict[str, float] = {}

    def add(
        self,
        tensors: Mapping[str, Tensor],
        block_weights: Mapping[str, float],
        sent: Mapping[str, Tensor] | None = None,
        losses: Mapping[int, GroupLoss] | None = None,
        chance: float = 1.0,
    ) -> None:
        """Add one checked reply with the site's weight a_s/π_s for each block.

        Parameters
        ----------
        tensors, block_weights
            The tensors that the site sent back, and its weights.
        sent, losses
            The model that the site received, and its training losses on it; for rules that need more than an average.
        chance
            π_s, the probability with which the site was drawn to take part in the round.
        """
        for name, tensor in tensors.items():
            weight = block_weights.get(block_of(name), 0.0) / chance  # no weight: λ of all its groups is 0
            if name not in self._sum:
                self._sum[name] = torch.zeros(tensor.shape, dtype=torch.float64)
                self._weight[name] = 0.0
            self._sum[name].add_(tensor.to(torch.float64), alpha=weight)
            self._weight[name] += weight

    def average(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The average of every global tensor that some reply carried with weight, dtypes unchanged."""
        return {
            name: (self._sum[name] / self._weight[name]).to(tensor.dtype)
            for name, tensor in tensors.items()
            if self._weight.get(name)
        }

    def weights(self) -> dict[str, float]:
        """Σ_s a_s of the replies that carried a tensor, by name."""
        return dict(self._weight)

    def apply(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The global tensors with every averaged one replaced."""
        return {**tensors, **self.average(tensors)}
