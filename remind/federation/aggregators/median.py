"""The median of each number."""

from collections.abc import Mapping

from torch import Tensor
from typing_extensions import override

from remind.federation.aggregators.base import Robust, registry


@registry.register(
    "median",
    title="median of each number over the hospitals that sent the block, one vote each",
    paper="Yin et al., Byzantine-robust distributed learning: towards optimal statistical rates",
    year=2018,
)
class Median(Robust):
    """Coordinate-wise median; with an even number the mean of the middle two, as in NumPy and Flower."""

    @property
    @override
    def least(self) -> int:
        return 3

    @override
    def combined(self, stacks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for name, stack_S in stacks.items():
            ranked_S = stack_S.sort(dim=0).values
            found[name] = (ranked_S[(len(ranked_S) - 1) // 2] + ranked_S[len(ranked_S) // 2]) / 2
        return found
