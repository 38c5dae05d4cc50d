"""The mean of each number without its extremes."""

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor
from typing_extensions import override

from remind.config import Count
from remind.federation.aggregators.base import Robust, registry
from remind.registry import Options


class TrimmedMeanOptions(Options):
    """What is cut."""

    cut: Count = Field(1, description="hospitals that may lie: so many values are left out at either end")


@registry.register(
    "trimmed_mean",
    title="mean of each number over the hospitals that sent the block, without the extremes, one vote each",
    paper="Yin et al., Byzantine-robust distributed learning: towards optimal statistical rates",
    year=2018,
    options=TrimmedMeanOptions,
)
class TrimmedMean(Robust):
    """Coordinate-wise mean of what is left after the `cut` lowest and the `cut` highest values are taken out."""

    options: TrimmedMeanOptions

    @property
    @override
    def least(self) -> int:
        return 2 * self.options.cut + 1

    @override
    def combined(self, stacks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        cut = self.options.cut
        return {name: stack_S.sort(dim=0).values[cut:-cut].mean(dim=0) for name, stack_S in stacks.items()}
