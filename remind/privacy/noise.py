"""Secret random numbers of a site that are the same whenever the same question is asked, and Gaussian noise of them.

The bits are AES-256 in counter mode under a key of HKDF-SHA256(secret of the site; digest of the question, purpose).
So a question that is asked again gets the same noise, and no other question shares any of it. The coordinator knows the
question but not the secret: neither noise nor draws can be told from random ones.

A sum is rounded to a grid and the noise is an integer number of grid steps: what leaves is exact integer arithmetic,
without the gaps between floating-point numbers that betray the sum (Mironov, CCS 2012). The integers are normal numbers
(Box–Muller, 53-bit uniforms, tails cut at 8.5 standard deviations) rounded: at `STEPS_PER_CLIP` steps per unit a
rounded normal is a discrete Gaussian for all purposes (Kairouz et al. 2021, arXiv 2102.06387).
"""

import math
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
MOST_STEPS: Final = 2.0**51  # sums of whole numbers below are exact in float64
_PIECE: Final = 1 << 15  # numbers drawn at a time: they stay in the cache


class Randomness:
    """One stream of secret random numbers.

    Parameters
    ----------
    secret
        The site's own, `SECRET_BYTES` random bytes; whoever knows it knows the noise.
    question
        Digest of what is answered.
    purpose
        What the numbers are for; each purpose has its own stream.

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

    def uniforms(self, number: int) -> Floats:
        """Return numbers k/2^53 with 0 < k ≤ 2^53."""
        words = np.frombuffer(self._stream.update(bytes(8 * number)), dtype="<u8")
        return ((words >> np.uint64(11)).astype(np.float64) + 1) * 2.0**-53

    def normals(self, number: int) -> Floats:
        """Return standard normal numbers."""
        half = (number + 1) // 2
        radius, angle = np.sqrt(-2 * np.log(self.uniforms(half))), torch.from_numpy(self.uniforms(half)).mul_(math.tau)
        # Torch's sine and cosine take a fifth of the time of numpy's.
        return np.concatenate([radius * angle.cos().numpy(), radius * angle.sin().numpy()])[:number]

    def chosen(self, number: int, rate: float) -> NDArray[np.bool_]:
        """Return which of so many are drawn: each by itself with probability `rate`; 1: all."""
        drawn: NDArray[np.bool_] = self.uniforms(number) <= rate
        return drawn


def noisy(exact: Floats, bound: float, noise: float, randomness: Randomness) -> Floats:
    """Return a sum with Gaussian noise, on a grid.

    Parameters
    ----------
    exact
        The sum, any shape.
    bound
        How far one patient can move it: its L2 sensitivity.
    noise
        Noise multiplier σ: the standard deviation is σ times the bound, made larger for what rounding adds to it.

    Raises
    ------
    ValueError
        The sum is not finite, or too large for the grid.
    """
    grid = bound / STEPS_PER_CLIP
    deviation = noise * rounded_bound(1.0, exact.size) * STEPS_PER_CLIP
    given = np.array(exact, dtype=np.float64)
    flat = given.reshape(-1)
    for start in range(0, len(flat), _PIECE):
        piece = flat[start : start + _PIECE]
        steps = np.rint(piece / grid)
        if not np.abs(steps).max() < MOST_STEPS:  # false for what is not finite, too
            raise ValueError("a sum that noise is to be added to is not finite, or too large for its grid")
        piece[:] = (steps + np.rint(deviation * randomness.normals(len(piece)))) * grid
    return given


def rounded_bound(bound: float, numbers: int) -> float:
    """Return how far one patient can move a sum of so many numbers after it is rounded to the grid.

    Each number may be rounded the other way: at most one grid step further apart, √d steps in all.
    """
    return bound * (1 + math.sqrt(numbers) / STEPS_PER_CLIP)
