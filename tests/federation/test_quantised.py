"""Updates in 8 bits: the bound of rounding, the sum over rounds, the bytes, and what they do not go with."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remind.config import Config
from remind.errors import UserError
from remind.federation.blocks import index_of, pack, unpack
from remind.federation.quantised import LEVELS, RESIDUAL, RUN, dequantise, nbytes_of, quantise, with_feedback
from remind.methods import methods_of
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE, settings
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {"one": [1, 2, 3] * 8, "two": [3, 5] * 8}
SIZES = st.integers(1, 3 * RUN)


def runs_of(value):
    return [value[i : i + RUN] for i in range(0, len(value), RUN)]


@given(SIZES, st.integers(0, 2**32 - 1), st.floats(-30, 30))
def test_every_value_is_within_half_a_step_of_its_run(size, seed, exponent):
    value = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 10.0**exponent
    value = value.float()
    raw = quantise(value)
    assert raw.dtype == np.uint8
    assert len(raw) == nbytes_of(size)
    read = dequantise(raw, size)
    for before, after in zip(runs_of(value), runs_of(read), strict=True):
        step = before.abs().max() / LEVELS
        assert (after - before).abs().max() <= step * 0.5 * (1 + 1e-4)
    assert torch.equal(torch.from_numpy(quantise(read)), torch.from_numpy(raw)), "what was read is sent unchanged"


def test_zeros_stay_zeros_and_one_large_value_spoils_only_its_own_run():
    value = torch.full((2 * RUN,), 1e-3)
    value[0] = 1e6
    read = dequantise(quantise(value), len(value))
    assert (read[1:RUN] == 0).all()
    assert torch.allclose(read[RUN:], value[RUN:], rtol=1e-6)
    assert (dequantise(quantise(torch.zeros(5)), 5) == 0).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="not finite"):
        quantise(torch.tensor([1.0, bad]))


def test_with_feedback_the_sum_of_what_is_sent_is_the_sum_of_the_updates_less_what_is_left():
    draw = torch.Generator().manual_seed(1)
    kept, whole, sent, plain = {}, torch.zeros(300), torch.zeros(300), torch.zeros(300)
    whole, sent, plain = whole.double(), sent.double(), plain.double()
    for _ in range(200):
        update = 1e-3 + 0.1 * torch.randn(300, generator=draw, dtype=torch.float64).pow(5)
        read, left = with_feedback({"fusion.a": update}, kept)
        kept |= left
        whole, sent = whole + update, sent + read["fusion.a"]
        plain = plain + dequantise(quantise(update), 300)
    rest = kept[RESIDUAL + "fusion.a"]
    assert (sent + rest - whole).abs().max() < 1e-9
    assert float((sent - whole).abs().max()) == pytest.approx(float(rest.abs().max()), rel=1e-6)
    assert (sent - whole).norm() < 0.2 * (plain - whole).norm(), "without feedback the errors add up"


def test_a_part_that_waits_neither_gets_nor_loses_what_is_left():
    kept = {RESIDUAL + "a": torch.ones(3), RESIDUAL + "b": torch.ones(3)}
    sent, left = with_feedback({"a": torch.zeros(3), "b": torch.zeros(3)}, kept, silent=["a"])
    assert (sent["a"] == 0).all()
    assert torch.allclose(sent["b"], torch.ones(3))
    assert left.keys() == {RESIDUAL + "b"}
    sent, _ = with_feedback({"a": torch.zeros(4)}, kept)
    assert (sent["a"] == 0).all(), "a difference of another shape is none"


def test_types_may_differ_by_name():
    tensors = {"fusion.a": torch.randn(5, 7), "fusion.b": torch.randn(3), "fusion.c": torch.tensor(2.0)}

    def types(name):
        return "float32" if name == "fusion.b" else "int8"

    index, buffer = index_of(tensors, types), pack(tensors, types)
    assert sum(e.nbytes for e in index) == buffer.nbytes == (35 + 4) + 3 * 4 + (1 + 4)
    found = unpack(index, buffer)
    assert torch.equal(found["fusion.b"], tensors["fusion.b"])
    assert all((found[n] - t).abs().max() <= t.abs().max() / 253 for n, t in tensors.items())
    assert found["fusion.a"].shape == (5, 7)


def run(folder, updates, **changes):
    config = settings({"train.warmup-rounds": 4, "federation.updates": updates} | changes)
    sites = [site(name, cohort(mix, seed), config, folder) for seed, (name, mix) in enumerate(MIXES.items())]
    recorder = Recorder()
    FedRemind(config, [recorder]).run(SiteGrid(sites))
    return recorder


def test_a_run_in_8_bits_is_near_the_exact_one_and_answers_a_quarter_of_the_bytes(tmp_path):
    wide = {"model.width": 32, "model.experts": 8}
    exact, eight = run(tmp_path / "exact", "exact", **wide), run(tmp_path / "int8", "int8", **wide)
    for one, other in zip(exact.rounds, eight.rounds, strict=True):
        assert one.bytes_down == other.bytes_down
        assert 3 < one.bytes_up / other.bytes_up < 4
        assert not other.absent
    first, last = exact.models[0], exact.models[-1]
    moved = sum(float((last[n] - first[n]).square().sum()) for n in last) ** 0.5
    apart = sum(float((last[n] - eight.result.tensors[n]).square().sum()) for n in last) ** 0.5
    assert 0 < apart < 0.1 * moved


@pytest.mark.parametrize("fusion", ["clusmfl", "pepsy"])
def test_what_is_merged_and_no_update_stays_exact(fusion, tmp_path):
    found = run(tmp_path, "int8", **{"method.fusion": fusion, "train.warmup-rounds": 2})
    assert not any(one.absent for one in found.rounds)


def test_what_it_does_not_go_with_is_refused():
    with pytest.raises(UserError, match="masks are for numbers with one scale"):
        Config.from_flat(BASE | {"federation.updates": "int8", "federation.secure-aggregation": True})
    with pytest.raises(UserError, match="scaffold needs exactly what was sent"):
        methods_of(settings({"federation.updates": "int8", "method.rule": "scaffold", "method.objective": "erm"}))
