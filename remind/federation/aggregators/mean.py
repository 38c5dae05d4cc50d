"""The weighted average."""

from typing_extensions import override

from remind.federation.aggregation import BlockAverage
from remind.federation.aggregators.base import Aggregator, registry


@registry.register(
    "mean", title="average with the weights of the objective, summed as replies arrive", paper="", year=0
)
class Mean(Aggregator):
    """Σ_s a_s·θ_s / Σ_s a_s (algorithm §3). One hospital within the limits can pull it by its weight."""

    averages = True

    @override
    def combiner(self) -> BlockAverage:
        return BlockAverage()
