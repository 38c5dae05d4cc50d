"""Secret random numbers of a site that depend only on the question, and Gaussian noise made of them.

The bits are AES-256 in counter mode; HKDF-SHA256 derives the key from the site's secret, the digest of the question and
the purpose. A repeated question therefore gets the same noise, and different questions get independent noise. The
coordinator knows the question but not the secret, so it cannot distinguish noise and draws from random numbers.

A sum is rounded to a grid, and the noise is a whole number of grid steps. The released value is the result of exact
integer arithmetic, so the gaps between floating-point numbers do not reveal the sum (Mironov, CCS 2012). The integers
are rounded normal numbers (Box–Muller, 52-bit uniforms, tails cut at 8.5 standard deviations). With `STEPS_PER_CLIP`
steps per unit, a rounded normal number is practically a discrete Gaussian (Kairouz et al. 2021, arXiv 2102.06387).
"""

import math
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
SECRET_BYTES: Final = 32
STEPS_PER_CLIP: Final = 2**16  # grid steps per unit of sensitivity
MOST_STEPS: Final = 2.0**51  # sums of smaller whole numbers are exact in float64
_BLOCK: Final = 16  # bytes of an AES block
PIECE: Final = 1 << 16  # numbers at a time; they fit into the processor's cache
_ZEROS: Final = memoryview(bytes(8 * PIECE))


class Randomness:
    """One stream of secret random numbers.

    Parameters
    ----------
    secret
        The site's secret, `SECRET_BYTES` random bytes. With it, anybody can compute the noise.
    question
        Digest of the question that is answered.
    purpose
        Purpose of the numbers. Each purpose has its own stream.

    Raises
    ------
    ValueError
        The secret is too short.
    """

    def __init__(self, secret: bytes, question: str, purpose: str) -> None:
        if len(secret) < SECRET_BYTES:
            raise ValueError(f"a secret of {len(secret)} bytes is too short; {SECRET_BYTES} are needed")
        info = b"federated-remind\0" + question.encode() + b"\0" + purpose.encode()
        key = HKDF(SHA256(), 32, salt=None, info=info).derive(secret)
        self._stream = Cipher(AES(key), CTR(bytes(16))).encryptor()
        self._drawn = np.empty(0, dtype=np.uint8)

    def uniforms(self, number: int, out: Floats | None = None) -> Floats:
        """Return numbers k/2^52 with 0 < k ≤ 2^52, in `out` if it is given."""
        found = np.empty(number) if out is None else out
        if len(self._drawn) < 8 * min(number, PIECE) + _BLOCK:
            self._drawn = np.empty(8 * min(number, PIECE) + _BLOCK, dtype=np.uint8)
        for start in range(0, number, PIECE):
            piece = found[start : min(start + PIECE, number)]
            size = 8 * len(piece)
            self._stream.update_into(_ZEROS[:size], self._drawn[: size + _BLOCK].data)
            # The upper 52 bits become those of a float in [1, 2): converting integers would take eight times as long.
            words = np.right_shift(self._drawn[:size].view("<u8"), np.uint64(12), out=piece.view(np.uint64))
            words |= np.uint64(0x3FF0000000000000)
            piece -= 1 - 2.0**-52
        return found

    def normals(self, number: int, out: Floats | None = None) -> Floats:
        """Return standard normal numbers, in `out` if it is given, which has room for an even number of them."""
        half = (number + 1) // 2
        whole = np.empty(2 * half) if out is None else out[: 2 * half]
        # Torch's logarithm, sine and cosine take a fifth to a half of the time of numpy's.
        cosine, sine = torch.from_numpy(self.uniforms(2 * half, whole).reshape(2, half))
        radius = cosine.log().mul_(-2).sqrt_()
        angle = sine.mul_(math.tau)
        torch.cos(angle, out=cosine)
        cosine.mul_(radius)
        angle.sin_().mul_(radius)
        return whole[:number]

    def bernoulli(self, number: int, rate: float) -> NDArray[np.bool_]:
        """Return independent Bernoulli draws, (number,): True with probability `rate`; always True if it is 1."""
        drawn: NDArray[np.bool_] = self.uniforms(number) <= rate
        return drawn


class DrawnAhead:
    """The first normal numbers of a stream, which another thread draws while the caller computes something else."""

    def __init__(self, randomness: Randomness, numbers: int, thread: Executor) -> None:
        memory = np.empty(numbers + numbers % 2)  # by this thread: see `keep_freed_memory`
        self._drawn = thread.submit(draw, randomness, numbers, memory)

    def result(self) -> Floats:
        """Return them when they are drawn: those of `draw`."""
        return self._drawn.result()


def draw(randomness: Randomness, numbers: int, out: Floats | None = None) -> Floats:
    """Return the standard normal numbers that `add_noise` adds to P = `numbers` values, (P,); `out`: as for them."""
    found = np.empty(numbers + numbers % 2) if out is None else out
    for start in range(0, numbers, PIECE):
        randomness.normals(min(PIECE, numbers - start), found[start:])
    return found[:numbers]


@dataclass(frozen=True)
class GridNoise:
    """Gaussian noise on a grid, for a sum of P values.

    Attributes
    ----------
    bound
        L2 sensitivity: the largest change of the sum that one patient can cause.
    noise
        Noise multiplier σ. The standard deviation is σ times `rounded_bound`.
    numbers
        P.
    """

    bound: float
    noise: float
    numbers: int

    def add(self, exact: Floats, drawn: Floats) -> Floats:
        """Return some of the P values with noise made of standard normal numbers, which are overwritten.

        Raises
        ------
        ValueError
            The values are not finite, or too large for the grid.
        """
        grid = self.bound / STEPS_PER_CLIP
        given = np.multiply(exact, 1 / grid)
        np.rint(given, out=given)
        if not math.sqrt(np.dot(given, given)) < MOST_STEPS:  # a bound on the largest one; also refuses NaN
            raise ValueError("cannot add noise to a sum that is not finite, or too large for its grid")
        drawn *= self.noise * rounded_bound(1.0, self.numbers) * STEPS_PER_CLIP
        given += np.rint(drawn, out=drawn)
        given *= grid
        return given


def add_noise(exact: Floats, bound: float, noise: float, randomness: Randomness) -> Floats:
    """Add `GridNoise` of a stream to a sum, any shape.

    Raises
    ------
    ValueError
        The sum is not finite, or too large for the grid.
    """
    how, given = GridNoise(bound, noise, exact.size), np.empty(np.shape(exact))
    flat, flat_exact = given.reshape(-1), np.reshape(exact, -1)
    for start in range(0, len(flat), PIECE):
        piece = flat_exact[start : start + PIECE]
        flat[start : start + PIECE] = how.add(piece, randomness.normals(len(piece)))
    return given


def rounded_bound(bound: float, numbers: int) -> float:
    """Return the L2 sensitivity of a sum of d = `numbers` values after it is rounded to the grid.

    Rounding can change each difference by at most one grid step, so √d steps in total.
    """
    return bound * (1 + math.sqrt(numbers) / STEPS_PER_CLIP)
