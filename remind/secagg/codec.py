"""Fixed-point encoding, so that sums under masks are exact: x ↦ round(x·2^f) modulo 2^b."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from remind.secagg.masks import Words

Floats = NDArray[np.float64]


class RangeError(ValueError):
    """A number is too large for the encoding: the sum could overflow."""


@dataclass(frozen=True)
class Codec:
    """A fixed-point encoding in words of `bits` bits.

    Attributes
    ----------
    fraction
        Number of fractional bits. Rounding changes a number by at most half of `step`.
    """

    bits: Literal[32, 64]
    fraction: int

    @property
    def step(self) -> float:
        """Difference between two neighbouring numbers."""
        return 2.0**-self.fraction

    def bound(self, sites: int) -> float:
        """Return the bound of each site's absolute value: below it, the sum over the sites cannot overflow."""
        return 2.0 ** (self.bits - 1 - self.fraction) / sites

    def encode(self, values_N: Floats, sites: int) -> Words:
        """Encode numbers as words, (N,).

        Parameters
        ----------
        sites
            Largest number of such vectors that will be summed.

        Raises
        ------
        RangeError
            A number is not finite or too large. It is not clipped, because the wrong sum would remain unnoticed.
        """
        size = float(np.abs(values_N).max(initial=0.0))
        if not size < self.bound(sites):  # NaN too
            raise RangeError(
                f"a number of size {size:.3g} cannot be summed under masks; the limit is {self.bound(sites):g}"
            )
        grid_N = np.rint(values_N * 2.0**self.fraction).astype(np.int64)
        return grid_N.astype(np.uint32) if self.bits == 32 else grid_N.view(np.uint64)

    def decode(self, words_N: Words) -> Floats:
        """Decode a sum of words, (N,)."""
        signed_N = words_N.view(np.int32 if self.bits == 32 else np.int64)
        return signed_N.astype(np.float64) * self.step


TENSORS = Codec(32, 24)  # updates times weights; the bound for 20 sites, ±6.4, is far above every honest update
STATISTICS = Codec(64, 32)  # counts, sums of losses and weights


@dataclass(frozen=True)
class Payload:
    """One encoded block: its tensors, and the statistics that are summed together with them."""

    tensors: NDArray[np.uint32]
    statistics: NDArray[np.uint64]

    @classmethod
    def of(cls, tensors: Floats, statistics: Floats, sites: int) -> "Payload":
        """Encode the numbers of a block. Raises the errors of `Codec.encode`."""
        return cls(
            TENSORS.encode(tensors, sites).astype(np.uint32), STATISTICS.encode(statistics, sites).astype(np.uint64)
        )

    @classmethod
    def zeros(cls, lengths: tuple[int, int]) -> "Payload":
        """Return a block of zeros; `lengths` as in the property of that name."""
        return cls(np.zeros(lengths[0], np.uint32), np.zeros(lengths[1], np.uint64))

    @property
    def lengths(self) -> tuple[int, int]:
        """Number of tensor words and number of statistics."""
        return len(self.tensors), len(self.statistics)

    def copy(self) -> "Payload":
        """Return a copy with its own arrays."""
        return Payload(self.tensors.copy(), self.statistics.copy())

    def add(self, other: "Payload") -> None:
        """Add another block of the same lengths, in place."""
        self.tensors.__iadd__(other.tensors)
        self.statistics.__iadd__(other.statistics)

    def numbers(self) -> tuple[Floats, Floats]:
        """Decode a sum of blocks: its tensors and its statistics."""
        return TENSORS.decode(self.tensors), STATISTICS.decode(self.statistics)

    def to_bytes(self) -> NDArray[np.uint8]:
        """Return the raw bytes, tensors first."""
        return np.concatenate([self.tensors.view(np.uint8), self.statistics.view(np.uint8)])


def nbytes_of(lengths: tuple[int, int]) -> int:
    """Return the size in bytes of a block with these numbers of tensor words and statistics."""
    return 4 * lengths[0] + 8 * lengths[1]


def payload_of(raw: NDArray[np.uint8], lengths: tuple[int, int]) -> Payload:
    """Read a block from its bytes. The caller has checked the number of bytes."""
    middle = 4 * lengths[0]
    return Payload(raw[:middle].copy().view(np.uint32), raw[middle:].copy().view(np.uint64))
