"""Buffers and their index: exact round trips, and every way in which they can be wrong."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remind.federation.blocks import DTYPES, Entry, block_of, index_of, pack, unpack
from remind.training.site_model import SiteModel
from tests.builders.cohorts import NAMES, schema
from tests.builders.configs import settings

SHAPES = st.lists(st.lists(st.integers(1, 4), max_size=4).map(tuple), max_size=5)


@given(shapes=SHAPES, dtype=st.sampled_from(sorted(DTYPES)), seed=st.integers(0, 1000))
def test_round_trip_is_exact(shapes, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    sent = {
        f"fusion.t{i}.w": (100 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(DTYPES[dtype])
        for i, shape in enumerate(shapes)
    }
    index = index_of(sent, dtype)
    buffer = pack(sent, dtype)
    assert buffer.nbytes == sum(entry.nbytes for entry in index)
    received = unpack(index, buffer)
    assert list(received) == sorted(sent)
    for name, tensor in sent.items():
        assert received[name].dtype == tensor.dtype
        assert received[name].shape == tensor.shape
        assert torch.equal(received[name], tensor)


def test_pack_does_not_care_how_tensors_lie_in_memory_or_in_the_mapping():
    wide = torch.arange(12.0).view(3, 4)
    transposed = {"fusion.b": wide.t(), "fusion.a": wide[:, 1]}
    plain = {"fusion.a": wide[:, 1].clone(), "fusion.b": wide.t().contiguous()}
    assert np.array_equal(pack(transposed, "float32"), pack(plain, "float32"))


def test_unpacked_tensors_do_not_share_the_buffer():
    sent = {"fusion.a": torch.ones(2)}
    buffer = pack(sent, "float32")
    received = unpack(index_of(sent, "float32"), buffer)
    received["fusion.a"].zero_()
    assert torch.equal(unpack(index_of(sent, "float32"), buffer)["fusion.a"], torch.ones(2))


def entry(name="fusion.a", block="shared", shape=(2,), dtype="float32"):
    return Entry(name=name, block=block, shape=shape, dtype=dtype)


@pytest.mark.parametrize(
    ("index", "size", "words"),
    [
        ([entry()], 7, "ends within"),
        ([entry()], 0, "ends within"),
        ([entry()], 9, "1 bytes that its index does not name"),
        ([], 4, "does not name"),
        ([entry(), entry()], 16, "occurs twice"),
        ([entry(block="group:1")], 8, "claims block"),
        ([entry(name="fusion.groups.3.missing_D", block="group:5")], 8, "claims block"),
        ([entry(name="encoders.a.w")], 8, "claims block"),
        ([entry(shape=(2**40, 2**40))], 8, "ends within"),
    ],
)
def test_what_does_not_fit_is_refused(index, size, words):
    with pytest.raises(ValueError, match=words):
        unpack(index, np.zeros(size, np.uint8))


@pytest.mark.parametrize("shape", [(-1,), (-2, -2), (0,), (0, 2**62), (1,) * 9, (1.5,), ("2",)])
def test_shapes_no_tensor_has(shape):
    with pytest.raises(ValidationError):
        entry(shape=shape)


@pytest.mark.parametrize("dtype", ["float16", "object", "int64", ""])
def test_types_that_do_not_travel(dtype):
    with pytest.raises(ValidationError):
        entry(dtype=dtype)


def test_block_of_every_parameter():
    model = SiteModel(schema(), settings(), NAMES)
    model.fusion.add_groups([1, 6], 0)
    blocks = {block_of(name) for name, _ in model.named_parameters()}
    assert blocks == {"shared", "group:1", "group:6", "encoder:a", "encoder:b", "encoder:c"}


NO_NAMES = ["", "fusion", "fusion.groups", "fusion.groups.3", "encoders", "encoders.a", "head", "x.groups.3.w", "."]
NO_GROUPS = ["-3", "03", "+3", " 3", "3_0", "³", "３", "1e3", "", "9" * 5000]


@pytest.mark.parametrize("name", NO_NAMES + [f"fusion.groups.{g}.missing_D" for g in NO_GROUPS])
def test_names_that_no_parameter_has(name):
    with pytest.raises(ValueError, match=r"not the name|integer string"):
        block_of(name)
