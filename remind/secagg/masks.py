"""Masks: the key stream of AES-256 in counter mode, added to words or subtracted from them in place, in chunks."""

from typing import Literal

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

PIECE = 256 << 10  # bytes of key stream in memory at a time
Words = NDArray[np.uint32] | NDArray[np.uint64]


class Mask:
    """The key stream of one key. Each key is used for only one stream, which begins at counter 0."""

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(AES256(key), CTR(bytes(16))).encryptor()
        self._zeros, self._stream = bytes(PIECE), bytearray(PIECE + 15)

    def apply(self, words: Words, sign: Literal[1, -1]) -> None:
        """Add the next part of the stream to the words (N,) or subtract it, modulo 2^32 or 2^64, in place."""
        step = PIECE // words.itemsize
        for start in range(0, len(words), step):
            piece = words[start : start + step]
            self._encryptor.update_into(self._zeros[: piece.nbytes], self._stream)
            stream = np.frombuffer(self._stream, dtype=words.dtype, count=len(piece))
            (np.add if sign > 0 else np.subtract)(piece, stream, out=piece)
