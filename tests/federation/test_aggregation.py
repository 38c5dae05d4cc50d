"""Averages per block: a loop, blocks that nobody carried, the order of sites."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remind.federation.aggregation import BlockAverage, Merging
from tests.builders.blocks import BLOCK, SHAPES


def replies(seed: int, sites: int):
    """Each site has the shared block, and the others by chance."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(sites):
        has = {b for b in set(BLOCK.values()) if b == "shared" or torch.rand(1, generator=generator) < 0.5}
        tensors = {
            n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in SHAPES.items() if BLOCK[n] in has
        }
        out.append((tensors, {b: float(torch.rand(1, generator=generator)) + 0.01 for b in sorted(has)}))
    return out


def averaged(all_replies, dtype=torch.float64):
    average = BlockAverage()
    for tensors, weights in all_replies:
        average.add(tensors, weights)
    return average.apply({n: torch.full(s, -7.0, dtype=dtype) for n, s in SHAPES.items()})


@given(seed=st.integers(0, 10**6), sites=st.integers(1, 6))
def test_equals_the_loop(seed, sites):
    given_ = replies(seed, sites)
    found = averaged(given_)
    for name, shape in SHAPES.items():
        carrying = [(t[name], w[BLOCK[name]]) for t, w in given_ if name in t]
        expected = torch.full(shape, -7.0, dtype=torch.float64)
        if carrying:
            total = math.fsum(w for _, w in carrying)
            expected = sum((w / total) * t for t, w in carrying)
        torch.testing.assert_close(found[name], expected, rtol=1e-13, atol=1e-14)


@given(seed=st.integers(0, 10**6), sites=st.integers(2, 6))
def test_order_of_sites_does_not_matter(seed, sites):
    given_ = replies(seed, sites)
    one, other = averaged(given_), averaged(given_[::-1])
    assert all((one[n] - other[n]).abs().max() <= 1e-15 * max(1.0, one[n].abs().max()) * sites for n in SHAPES)


def test_a_block_nobody_carried_stays_bit_for_bit():
    before = {"fusion.groups.1.missing_D": torch.tensor([0.1, math.pi])}
    average = BlockAverage()
    assert average.apply(before)["fusion.groups.1.missing_D"] is before["fusion.groups.1.missing_D"]
    average.add({"fusion.groups.1.missing_D": torch.ones(2)}, {"group:1": 0.0})
    average.add({"fusion.groups.1.missing_D": torch.ones(2)}, {})
    assert average.apply(before)["fusion.groups.1.missing_D"] is before["fusion.groups.1.missing_D"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_of_the_model_is_kept_and_bfloat16_is_summed_in_full(dtype):
    thirds = [({"fusion.head.weight": torch.full((2, 3), v, dtype=torch.bfloat16)}, {"shared": 1.0}) for v in (1, 2, 2)]
    found = averaged(thirds, dtype)["fusion.head.weight"]
    assert found.dtype == dtype
    torch.testing.assert_close(found, torch.full((2, 3), 5 / 3, dtype=dtype))


def test_replies_are_not_changed_nor_kept():
    tensor = torch.ones(2, 3, dtype=torch.float64)
    average = BlockAverage()
    average.add({"fusion.head.weight": tensor}, {"shared": 0.5})
    average.add({"fusion.head.weight": 3 * tensor}, {"shared": 0.5})
    assert torch.equal(tensor, torch.ones(2, 3, dtype=torch.float64))
    tensor.zero_()
    found = average.apply({"fusion.head.weight": tensor})["fusion.head.weight"]
    assert torch.equal(found, torch.full((2, 3), 2.0, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_site_that_sends_back_what_it_received_tells_nothing_to_merge(dtype):
    """Numbers are rounded on the way; what another site tells comes with what that site had received."""
    before = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    told = []
    combiner = Merging(BlockAverage(), lambda name: name == "fusion.pool", lambda n, r, b: told.extend(r) or b + 1)
    assert combiner.average({"fusion.pool": before}) == {}
    combiner.add({"fusion.pool": before.to(dtype)}, {"shared": 1.0}, sent={"fusion.pool": before})
    assert combiner.average({"fusion.pool": before}) == {}
    other = {"fusion.pool": before + 2}
    combiner.add({"fusion.pool": (before + 3).to(dtype)}, {"shared": 1.0}, sent=other)
    assert torch.equal(combiner.average({"fusion.pool": before})["fusion.pool"], before + 1)
    [(reply, sent)] = told
    assert torch.equal(reply, (before + 3).to(dtype))
    assert sent is other["fusion.pool"]
