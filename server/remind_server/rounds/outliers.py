"""Leave out an update that is much larger than the others of its round: a broken or lying site must not dominate.

The judges are the round's updates themselves, so that nobody has to know in advance how large an honest one is; what
honest ones measure is in docs/design.md. Like is compared with like: sites get different blocks, and an encoder of
millions of parameters moves otherwise than a group's few, so each block is held against the same block of other sites.
Two cannot judge each other: from the third on, each is compared with the median of those seen so far, its own among
them. The first two wait for the third, so that few are held in memory. What is small beside the model harms nobody,
however many times the median it is: an honest site is often several times as large as others that hardly moved.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from torch import Tensor

from remind.federation.blocks import block_of

JURY = 3  # updates of a block, before any is called an outlier
HARMLESS = 0.1  # of `federation.max-update`: up to this size a block's update is not compared with the others'


@dataclass(frozen=True)
class UpdateSize:
    """How far a site's reply is from what it was sent.

    Attributes
    ----------
    norms
        Block → ‖received − sent‖ of its tensors.
    model
        max(1, ‖sent‖) of all of them.
    """

    norms: Mapping[str, float]
    model: float = 1.0

    @property
    def relative(self) -> float:
        """‖received − sent‖ / max(1, ‖sent‖)."""
        return math.hypot(*self.norms.values()) / self.model


def update_size(sent: Mapping[str, Tensor], received: Mapping[str, Tensor]) -> UpdateSize:
    """Size of the update that a reply brings; both have the same names."""
    squared_sent = 0.0
    squared: dict[str, float] = {}
    for name, tensor in received.items():
        was, block = sent[name].double(), block_of(name)
        squared_sent += float(was.square().sum())
        squared[block] = squared.get(block, 0.0) + float((tensor.double() - was).square().sum())
    return UpdateSize({k: math.sqrt(v) for k, v in squared.items()}, max(1.0, math.sqrt(squared_sent)))


@dataclass
class Outliers:
    """Sizes of a round's updates; those of sites that did not move a block do not judge it.

    Attributes
    ----------
    ratio
        Times the median of its block that an update may have.
    most
        Largest update that counts at all, relative to the model.
    """

    ratio: float
    most: float
    updates: dict[str, UpdateSize] = field(default_factory=dict)

    def add(self, name: str, update: UpdateSize) -> None:
        """Note the size of a site's update."""
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
        """Whether there are enough to tell."""
        return sum(update.relative > 0 for update in self.updates.values()) >= JURY

    def ratios(self, name: str) -> dict[str, float]:
        """Block → the site's update of it, in medians of those that moved it; only blocks with enough of them."""
        found = {}
        for block, norm in self.updates[name].norms.items():
            moved = self._moved(block)
            if len(moved) >= JURY:
                found[block] = norm / median(moved)
        return found

    def problem(self, name: str) -> str:
        """Why a site's update is left out; empty if it is not."""
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
