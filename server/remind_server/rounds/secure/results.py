"""What the sums of secure aggregation come to: a round's averages, and an examination's statistics."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor
from typing_extensions import override

from remind.federation.aggregation import BlockAverage
from remind.federation.messages import Examine
from remind.federation.secure import examined, group_of_block
from remind.metrics.statistics import GroupLoss, GroupStatistics
from remind.metrics.tempering import TemperedSums
from remind.secagg.codec import Payload
from remind.secagg.limits import TOGETHER
from remind_server.rounds.collect import Measurement


class SummedAverage(BlockAverage):
    """Averages that secure aggregation gave, in place of those that are summed here."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._tensors = dict(tensors)

    @override
    def average(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self._tensors.items() if name in tensors}


@dataclass
class SummedRound:
    """What the coordinator knows after a round: sums."""

    average: BlockAverage
    losses: dict[int, GroupLoss] = field(default_factory=dict)
    trained: set[int] = field(default_factory=set)
    withheld: dict[str, str] = field(default_factory=dict)


def measurement_of(task: Examine, sums: Mapping[str, Payload], classes: int, absent: Mapping[str, str]) -> Measurement:
    """Return the sums as the statistics of one site, `TOGETHER`."""
    everybody = Measurement(dict(absent))
    parts: dict[str, dict[int, GroupStatistics]] = {"test": {}, "validation": {}, "calibrated": {}}
    tempered: dict[int, TemperedSums] = {}
    for block, payload in sums.items():
        k = group_of_block(block)
        assert k is not None
        found, sums_of_group = examined(task, payload, classes)
        parts = {name: own | ({k: one} if (one := found.get(name)) is not None else {}) for name, own in parts.items()}
        if sums_of_group is not None:
            tempered[k] = sums_of_group
    everybody.test[TOGETHER], everybody.validation[TOGETHER] = parts["test"], parts["validation"]
    if parts["calibrated"]:
        everybody.calibrated[TOGETHER] = parts["calibrated"]
    if tempered:
        everybody.tempered[TOGETHER] = tempered
    return everybody
