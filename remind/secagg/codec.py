"""Numbers as integers on a grid, so that sums under masks are exact: x ↦ round(x·2^f) modulo 2^b."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from remind.secagg.masks import Words

Floats = NDArray[np.float64]


class RangeError(ValueError):
    """A number is too large for the grid: summed, it could wrap around and turn into another one."""


@dataclass(frozen=True)
class Codec:
    """A grid of 2^-fraction in words of so many bits.

    Attributes
    ----------
    fraction
        Bits behind the point; a number is changed by rounding by at most half a step.
    """

    bits: Literal[32, 64]
    fraction: int

    @property
    def step(self) -> float:
        """Distance of two neighbours on the grid."""
        return 2.0**-self.fraction

    def most(self, sites: int) -> float:
        """Return what the size of each of so many numbers must stay below, for their sum to fit."""
        return 2.0 ** (self.bits - 1 - self.fraction) / sites

    def encode(self, values_N: Floats, sites: int) -> Words:
        """Return the words of the numbers, (N,).

        Parameters
        ----------
        sites
            Number of such vectors that will be summed at most.

        Raises
        ------
        RangeError
            A number is not finite or too large. Nothing is clipped: the sum would be wrong and nobody would know.
        """
        size = float(np.abs(values_N).max(initial=0.0))
        if not size < self.most(sites):  # NaN too
            raise RangeError(
                f"a number of size {size:.3g} is to be summed under masks; the most is {self.most(sites):g}"
            )
        grid_N = np.rint(values_N * 2.0**self.fraction).astype(np.int64)
        return grid_N.astype(np.uint32) if self.bits == 32 else grid_N.view(np.uint64)

    def decode(self, words_N: Words) -> Floats:
        """Return the numbers of a sum of words, (N,)."""
        signed_N = words_N.view(np.int32 if self.bits == 32 else np.int64)
        return signed_N.astype(np.float64) * self.step


TENSORS = Codec(32, 24)  # of updates times weights: beyond ±6.4 for 20 sites no update is honest
STATISTICS = Codec(64, 32)  # of counts, sums of losses and weights


@dataclass(frozen=True)
class Payload:
    """One block as words: its tensors, and what is counted and summed beside them."""

    tensors: NDArray[np.uint32]
    statistics: NDArray[np.uint64]

    @classmethod
    def of(cls, tensors: Floats, statistics: Floats, sites: int) -> "Payload":
        """The words of a block's numbers; raises as `Codec.encode`."""
        return cls(
            TENSORS.encode(tensors, sites).astype(np.uint32), STATISTICS.encode(statistics, sites).astype(np.uint64)
        )

    @classmethod
    def zeros(cls, lengths: tuple[int, int]) -> "Payload":
        """A block of zeros with so many tensor words and statistics."""
        return cls(np.zeros(lengths[0], np.uint32), np.zeros(lengths[1], np.uint64))

    @property
    def lengths(self) -> tuple[int, int]:
        """Number of tensor words, and of statistics."""
        return len(self.tensors), len(self.statistics)

    def copy(self) -> "Payload":
        """A copy whose words can be changed."""
        return Payload(self.tensors.copy(), self.statistics.copy())

    def add(self, other: "Payload") -> None:
        """Add another block of the same lengths, in place."""
        self.tensors.__iadd__(other.tensors)
        self.statistics.__iadd__(other.statistics)

    def numbers(self) -> tuple[Floats, Floats]:
        """The numbers of a sum."""
        return TENSORS.decode(self.tensors), STATISTICS.decode(self.statistics)

    def to_bytes(self) -> NDArray[np.uint8]:
        """Raw bytes, tensors first."""
        return np.concatenate([self.tensors.view(np.uint8), self.statistics.view(np.uint8)])


def nbytes_of(lengths: tuple[int, int]) -> int:
    """Bytes of a block with so many tensor words and statistics."""
    return 4 * lengths[0] + 8 * lengths[1]


def payload_of(raw: NDArray[np.uint8], lengths: tuple[int, int]) -> Payload:
    """Read a block from its bytes; the caller has checked their number."""
    middle = 4 * lengths[0]
    return Payload(raw[:middle].copy().view(np.uint32), raw[middle:].copy().view(np.uint64))
