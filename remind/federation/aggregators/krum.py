"""The reply that lies nearest to the others."""

from collections.abc import Mapping
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import override

from remind.config import Count
from remind.federation.aggregators.base import Robust, registry
from remind.registry import Options


class KrumOptions(Options):
    """How many may lie, and how many are kept."""

    liars: Count = Field(1, description="f: hospitals that may lie")
    keep: Count = Field(1, description="m: mean of the m replies with the lowest scores; 1: Krum, more: Multi-Krum")

    @model_validator(mode="after")
    def _keeps_no_liar(self) -> Self:
        if self.keep > self.liars + 3:  # of the fewest replies, 2f + 3, at most n − f are honest
            raise ValueError(
                f"keep = {self.keep}: of {2 * self.liars + 3} replies with {self.liars} liars, at most "
                f"{self.liars + 3} are honest"
            )
        return self


@registry.register(
    "krum",
    title="of the hospitals that sent a block, the reply that is nearest to most others; or the mean of such replies",
    paper="Blanchard et al., Machine learning with adversaries: Byzantine tolerant gradient descent",
    year=2017,
    options=KrumOptions,
)
class Krum(Robust):
    """score_s = Σ of the n − f − 2 smallest ‖θ_s − θ_t‖², t ≠ s, over all tensors of the block; n ≥ 2f + 3 replies.

    All were sent one model, so distances between replies are those between updates. Each block chooses for itself.
    """

    options: KrumOptions

    @property
    @override
    def least(self) -> int:
        return 2 * self.options.liars + 3

    @override
    def combined(self, stacks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        flat_SN = torch.cat([stack_S.reshape(len(stack_S), -1) for _, stack_S in sorted(stacks.items())], dim=1)
        number = len(flat_SN)
        squared_SS = torch.stack([(flat_SN - one_N).square().sum(dim=1) for one_N in flat_SN])
        squared_SS.fill_diagonal_(torch.inf)
        nearest_S = squared_SS.sort(dim=1).values[:, : number - self.options.liars - 2].sum(dim=1)
        place = [(float(nearest_S[s]), float(flat_SN[s].sum())) for s in range(number)]  # equal scores: by the values
        kept = sorted(range(number), key=place.__getitem__)[: self.options.keep]
        return {name: stack_S[kept].mean(dim=0) for name, stack_S in stacks.items()}
