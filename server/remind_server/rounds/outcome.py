"""The outcome of the exchange of a round."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from remind.federation.aggregation import BlockAverage
from remind.federation.message_statistics import PrivacySpent
from remind.federation.site_weights import Losses
from remind.metrics.statistics import GroupLoss, GroupStatistics


@dataclass(frozen=True)
class RoundOutcome:
    """The combined replies of a round; for the other fields see `RoundRecord`.

    Attributes
    ----------
    average
        The average of the tensors.
    measured
        Losses by site, for the weights of the next round; empty if none are known by site and none are needed.
    losses
        Losses of all sites together.
    received, local
        Losses of the training patients by site on the model received, and on the site's own after its steps.
    trained
        Groups that a site whose reply counts trains on.
    """

    average: BlockAverage
    measured: Losses
    losses: Mapping[int, GroupLoss]
    validation: Mapping[int, GroupStatistics]
    answered: tuple[str, ...]
    absent: Mapping[str, str]
    how: Mapping[str, str]
    late: tuple[str, ...]
    bytes_up: int
    trained: Collection[int]
    validation_by_site: Mapping[str, Mapping[int, GroupStatistics]] = field(default_factory=dict)
    withheld: Mapping[str, Collection[int]] = field(default_factory=dict)
    update_sizes: Mapping[str, float] = field(default_factory=dict)
    update_ratios: Mapping[str, float] = field(default_factory=dict)
    received: Losses = field(default_factory=dict)
    local: Losses = field(default_factory=dict)
    privacy: Mapping[str, PrivacySpent] = field(default_factory=dict)
    sampling_error: float | None = None
