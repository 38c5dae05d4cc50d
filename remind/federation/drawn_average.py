"""The unbiased estimate of a round's average from drawn sites, and the variance that the draw gives it.

With a block's weights a_s, A = Σ a_s over all sites that could be drawn, and π_s the probability of being drawn,

    θ ← θ + Σ_{s drawn} z_s,    z_s = a_s/(A·π_s)·(θ_s − θ),

whose mean over all draws is the step of a round in which all take part. It is the step of the ratio estimate times
`Draw.stretch`.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from typing_extensions import override

from remind.federation.aggregation import BlockAverage, Reply
from remind.federation.blocks import block_of
from remind.federation.participation import Draw


class DrawnAverage(BlockAverage):
    """θ + Σ z_s of every tensor over the replies that carry its block.

    Parameters
    ----------
    weights
        Site → block → a_s, of every site that could be drawn at least.
    """

    def __init__(self, draw: Draw, weights: Mapping[str, Mapping[str, float]]) -> None:
        super().__init__()
        self.draw, self.stretch = draw, draw.stretch(weights)
        self._spread = _Spread(draw.alike)

    @override
    def take(self, reply: Reply) -> None:
        if reply.sent is None:
            raise ValueError("an unbiased average needs the model that was sent")
        super().take(reply)
        self._spread.add(reply.tensors, reply.weights, reply.sent, reply.chance)

    @override
    def average(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: (tensors[name] + step).to(tensors[name].dtype) for name, step in self._steps(tensors).items()}

    def _steps(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return Σ z_s of every tensor that some reply carried with weight, float64.

        It is 0 for a block of which no site was drawn: momentum at the coordinator moves it all the same, as it would
        in a round in which all take part.
        """
        found = {}
        for name, tensor in tensors.items():
            stretch = self.stretch.get(block_of(name))
            if self._weight.get(name) and stretch is not None:
                found[name] = stretch * (self._sum[name] / self._weight[name] - tensor.to(torch.float64))
            elif stretch == 0:
                found[name] = torch.zeros(tensor.shape, dtype=torch.float64)
        return found

    def error(self, tensors: Mapping[str, Tensor]) -> float | None:
        """Return the standard error of the step owing to the draw, as a part of the step's norm.

        The variance is Deville's estimate for draws of a fixed size, summed over all numbers of the model:
        V = m/(m − 1)·Σ_s (1 − π_s)·‖z_s − z̄‖², z̄ = Σ (1 − π_s)·z_s / Σ (1 − π_s), over the m answering sites that were
        not sure to be drawn; z_s is 0 where a site lacks the block. If all have the same chance, its mean over all
        draws is the variance (Deville, Estimation de la variance pour des enquêtes en deux phases, 1993).

        Returns
        -------
        float or None
            None if fewer than two answering sites were not sure to be drawn, or nothing moved.
        """
        steps = self._steps(tensors)
        length = math.sqrt(math.fsum(float(step.square().sum()) for step in steps.values()))
        carried = [name for name in steps if self._weight.get(name)]
        scale = {name: self.stretch[block_of(name)] / self._weight[name] for name in carried}
        centre = {name: self._sum[name] - self._weight[name] * tensors[name].to(torch.float64) for name in carried}
        variance = self._spread.variance(scale, centre)
        return None if variance is None or length == 0 else math.sqrt(variance) / length


class _Spread:
    """Running sums for the variance: memory for one more model, and for none if all chances are alike."""

    def __init__(self, alike: bool) -> None:
        self._alike = alike
        self._number, self._total, self._one = 0, 0.0, 0.0  # uncertain sites; Σ (1 − π_s); 1 − π_s of one of them
        self._squares: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}

    def add(
        self, tensors: Mapping[str, Tensor], weights: Mapping[str, float], sent: Mapping[str, Tensor], chance: float
    ) -> None:
        if chance == 1:
            return
        self._number, self._total, self._one = self._number + 1, self._total + 1 - chance, 1 - chance
        for name, tensor in tensors.items():
            moved = (
                weights.get(block_of(name), 0.0) / chance * (tensor.to(torch.float64) - sent[name].to(torch.float64))
            )
            self._squares[name] = self._squares.get(name, 0.0) + (1 - chance) * float(moved.square().sum())
            if not self._alike:
                self._sums[name] = self._sums.get(name, torch.zeros_like(moved)).add_(moved, alpha=1 - chance)

    def variance(self, scale: Mapping[str, float], together: Mapping[str, Tensor]) -> float | None:
        """Return the variance of Σ z_s; `scale` brings a_s/π_s to z_s, `together` is Σ a_s/π_s·(θ_s − θ) of all."""
        if self._number < 2:
            return None
        found = []
        for name, factor in scale.items():
            centre = self._one * together[name] if self._alike else self._sums.get(name)
            squared = 0.0 if centre is None else float(centre.square().sum())
            found.append(factor**2 * (self._squares.get(name, 0.0) - squared / self._total))
        return max(math.fsum(found), 0.0) * self._number / (self._number - 1)
