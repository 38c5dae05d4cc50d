"""Numbers on a grid: the error is half a step, and what does not fit raises."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from remind.secagg.codec import STATISTICS, TENSORS, Codec, Payload, RangeError, nbytes_of, payload_of
from remind.secagg.masks import PIECE, Mask


@pytest.mark.parametrize("codec", [TENSORS, STATISTICS, Codec(32, 8)])
@given(st.integers(1, 50), st.integers(0, 2**32))
def test_sums_are_within_half_a_step_a_site(codec, sites, seed):
    values = np.random.default_rng(seed).uniform(-1, 1, (sites, 5)) * codec.bound(sites) * 0.999
    words = codec.encode(values[0], sites)
    for row in values[1:]:
        words = words + codec.encode(row, sites)
    error = np.abs(codec.decode(words) - values.sum(axis=0)).max()
    assert error <= sites * codec.step / 2 + abs(values).max() * sites * 1e-15


@pytest.mark.parametrize("codec", [TENSORS, STATISTICS])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, "most", "-most"])
def test_what_does_not_fit_raises(codec, value):
    most = codec.bound(7)
    wrong = {"most": most, "-most": -most}.get(value, value)
    with pytest.raises(RangeError, match="under masks; the limit is"):
        codec.encode(np.array([0.0, wrong]), 7)
    codec.encode(np.array([0.999 * most]), 7)


def test_counts_are_exact():
    counts = np.array([0.0, 1.0, 12_345_678.0])
    assert STATISTICS.decode(STATISTICS.encode(counts, 20)).tolist() == counts.tolist()


def test_a_payload_survives_the_wire():
    payload = Payload.of(np.arange(5.0) / 7, np.arange(3.0), 4)
    raw = payload.to_bytes()
    assert raw.nbytes == nbytes_of(payload.lengths) == 5 * 4 + 3 * 8
    back = payload_of(raw, payload.lengths)
    assert np.array_equal(back.tensors, payload.tensors)
    assert np.array_equal(back.statistics, payload.statistics)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_a_mask_comes_off_and_does_not_depend_on_its_pieces(dtype):
    number = 2 * PIECE // np.dtype(dtype).itemsize + 5
    words = np.zeros(number, dtype)
    Mask(b"k" * 32).apply(words, 1)

    stream = Cipher(algorithms.AES256(b"k" * 32), modes.CTR(bytes(16))).encryptor().update(bytes(words.nbytes))
    assert words.tobytes() == stream
    Mask(b"k" * 32).apply(words, -1)
    assert not words.any()
