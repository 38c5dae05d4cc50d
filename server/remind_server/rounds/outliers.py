"""Leave out an update that is much larger than the others of its round: a broken or lying site must not dominate.

An update is compared with the other updates of its round, so that the size of an honest update need not be known in
advance; docs/design.md has measured sizes. Each block is compared with the same block of other sites, because sites
get different blocks, and an encoder with millions of parameters moves differently from a group's few parameters. Two
updates are not enough to tell which one is wrong. From the third on, each is compared with the median of those
received so far, including itself. At most two replies wait for the third, so few are held in memory. An update that
is small compared with the model is harmless, even at many times the median: an honest update is often several times
as large as those of sites that hardly moved.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from statistics import median

from torch import Tensor

from remind.federation.blocks import block_of

JURY = 3  # minimum number of updates of a block for a comparison
HARMLESS = 0.1  # share of `federation.max-update`: a smaller update of a block is not compared


@dataclass(frozen=True)
class UpdateSize:
    """The distance between a site's reply and the model that it was sent.

    Attributes
    ----------
    norms
        Block → ‖received − sent‖ of its tensors.
    model
        max(1, ‖sent‖) over all tensors.
    """

    norms: Mapping[str, float]
    model: float = 1.0

    @property
    def relative(self) -> float:
        """‖received − sent‖ / max(1, ‖sent‖)."""
        return math.hypot(*self.norms.values()) / self.model


def update_size(
    sent: Mapping[str, Tensor], received: Mapping[str, Tensor], besides: Collection[str] = ()
) -> UpdateSize:
    """Return the size of an update but for the tensors `besides`; `sent` and `received` have the same names."""
    squared_sent = 0.0
    squared: dict[str, float] = {}
    for name in received:
        if name in besides:
            continue
        tensor = received[name]
        was, block = sent[name].double(), block_of(name)
        squared_sent += float(was.square().sum())
        squared[block] = squared.get(block, 0.0) + float((tensor.double() - was).square().sum())
    return UpdateSize({k: math.sqrt(v) for k, v in squared.items()}, max(1.0, math.sqrt(squared_sent)))


@dataclass
class Outliers:
    """Sizes of a round's updates. A site that did not move a block does not count in the block's median.

    Attributes
    ----------
    ratio
        Maximum size of an update, as a multiple of its block's median.
    most
        Maximum size of an update relative to the model.
    """

    ratio: float
    most: float
    updates: dict[str, UpdateSize] = field(default_factory=dict)

    def add(self, name: str, update: UpdateSize) -> None:
        """Add the size of a site's update."""
        self.updates[name] = update

    @property
    def sizes(self) -> dict[str, float]:
        """Site → size of its update relative to the model."""
        return {name: update.relative for name, update in self.updates.items()}

    @property
    def largest_ratios(self) -> dict[str, float]:
        """Site → its largest `ratios`, where it has any."""
        every = {name: self.ratios(name) for name in self.updates}
        return {name: max(found.values()) for name, found in every.items() if found}

    @property
    def judged(self) -> bool:
        """Whether there are enough updates for a comparison."""
        return sum(update.relative > 0 for update in self.updates.values()) >= JURY

    def ratios(self, name: str) -> dict[str, float]:
        """Return block → the site's update divided by the median of the sites that moved it, for comparable blocks."""
        found = {}
        for block, norm in self.updates[name].norms.items():
            moved = self._moved(block)
            if len(moved) >= JURY:
                found[block] = norm / median(moved)
        return found

    def problem(self, name: str) -> str:
        """Return why a site's update is left out; empty if it is not."""
        update = self.updates[name]
        for block, ratio in self.ratios(name).items():
            size = update.norms[block] / update.model
            if ratio > self.ratio and size > HARMLESS * self.most:
                return (
                    f"its update of block {block} is {size:.3g} times as large as the model, {ratio:.3g} times the "
                    f"median of {len(self._moved(block))} in this round (federation.max-update-ratio allows "
                    f"{self.ratio:g})"
                )
        return ""

    def _moved(self, block: str) -> list[float]:
        return [norm for update in self.updates.values() if (norm := update.norms.get(block, 0.0)) > 0]
