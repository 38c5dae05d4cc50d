"""An update far larger than the others' of its round is left out: a site that is broken, or lies, must not carry all.

The judges are the round's updates themselves, so that nobody has to know in advance how large an honest one is; what
honest ones measure is in docs/design.md. Two cannot judge each other: from the third on, each is compared with the
median of those seen so far, its own among them. The first two wait for the third, so that few are held in memory.
"""

from dataclasses import dataclass, field
from statistics import median

JURY = 3  # updates, before any is called an outlier


@dataclass
class Outliers:
    """Sizes of a round's updates, relative to the model; those of sites that did no steps judge nobody.

    Attributes
    ----------
    ratio
        Times the median that an update may have.
    """

    ratio: float
    sizes: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, size: float) -> None:
        """Note the size of a site's update."""
        self.sizes[name] = size

    @property
    def judged(self) -> bool:
        """Whether there are enough to tell."""
        return len(self._moved) >= JURY

    def problem(self, name: str) -> str:
        """Why a site's update is left out; empty if it is not."""
        if not self.judged:
            return ""
        size, usual = self.sizes[name], median(self._moved)
        if size <= self.ratio * usual:
            return ""
        return (
            f"its update is {size:.3g} times as large as the model, {size / usual:.3g} times the median of "
            f"{len(self._moved)} in this round (federation.max-update-ratio allows {self.ratio:g})"
        )

    @property
    def _moved(self) -> list[float]:
        return [size for size in self.sizes.values() if size > 0]
