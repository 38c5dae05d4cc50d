"""Secret random numbers of a site that depend only on the question, and Gaussian noise made of them.

The bits are AES-256 in counter mode; HKDF-SHA256 derives the key from the site's secret, the digest of the question and
the purpose. A repeated question therefore gets the same noise, and different questions get independent noise. The
coordinator knows the question but not the secret, so it cannot distinguish noise and draws from random numbers.

A sum is rounded to a grid, and the noise is a whole number of grid steps. The released value is the result of exact
integer arithmetic, so the gaps between floating-point numbers do not reveal the sum (Mironov, CCS 2012). The integers
are rounded normal numbers (Box–Muller, 53-bit uniforms, tails cut at 8.5 standard deviations). With `STEPS_PER_CLIP`
steps per unit, a rounded normal number is practically a discrete Gaussian (Kairouz et al. 2021, arXiv 2102.06387).
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
MOST_STEPS: Final = 2.0**51  # sums of smaller whole numbers are exact in float64
_PIECE: Final = 1 << 15  # numbers that are drawn at a time; they fit into the processor's cache


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

    def bernoulli(self, number: int, rate: float) -> NDArray[np.bool_]:
        """Return independent Bernoulli draws, (number,): True with probability `rate`; always True if it is 1."""
        drawn: NDArray[np.bool_] = self.uniforms(number) <= rate
        return drawn


def add_noise(exact: Floats, bound: float, noise: float, randomness: Randomness) -> Floats:
    """Add Gaussian noise to a sum, on a grid.

    Parameters
    ----------
    exact
        The sum, any shape.
    bound
        L2 sensitivity: the largest change of the sum that one patient can cause.
    noise
        Noise multiplier σ. The standard deviation is σ times `rounded_bound`.

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
        if not np.abs(steps).max() < MOST_STEPS:  # also refuses NaN
            raise ValueError("cannot add noise to a sum that is not finite, or too large for its grid")
        piece[:] = (steps + np.rint(deviation * randomness.normals(len(piece)))) * grid
    return given


def rounded_bound(bound: float, numbers: int) -> float:
    """Return the L2 sensitivity of a sum of d = `numbers` values after it is rounded to the grid.

    Rounding can change each difference by at most one grid step, so √d steps in total.
    """
    return bound * (1 + math.sqrt(numbers) / STEPS_PER_CLIP)
