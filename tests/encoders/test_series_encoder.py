"""Series → tokens against a loop over patients, items and observations."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import gelu

from remind.data.cohort.kinds.series import Series, SeriesBatch
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.encoders import build_encoder, token_count
from remind.encoders.base import patches
from remind.encoders.series import CLIP, FREQUENCIES
from remind.encoders.series_set import statistics
from tests.builders.configs import settings

ITEMS = ("hr", "bp", "temp", "gcs", "ph")
SCHEMA = SeriesSchema(name="s", items=ITEMS, horizon_hours=48.0)


def encoder(tokens=3, **changes):
    made: Any = build_encoder(SCHEMA, settings({"model.tokens": tokens} | changes).model, 0).double()
    made.mean_I.copy_(torch.arange(5))
    made.std_I.copy_(torch.arange(1, 6))
    return made


def draw(seed=0, patients=5, most=6) -> SeriesBatch:
    """Patients with 0 … `most` observations each; times of one patient may coincide."""
    rng = np.random.default_rng(seed)
    count_B = rng.integers(0, most + 1, size=patients)
    total = int(count_B.sum())
    return SeriesBatch(
        torch.from_numpy(rng.choice([0.0, 1.0, 7.5, 48.0], size=total)),
        torch.from_numpy(rng.integers(5, size=total)),
        torch.from_numpy(20 * rng.normal(size=total)),
        torch.from_numpy(np.repeat(np.arange(patients), count_B)),
        patients,
    )


def slow(made, batch: SeriesBatch, tokens: int) -> torch.Tensor:
    out = []
    for patient in range(batch.patients):
        item_ID = []
        for item in range(5):
            seen = []
            for o in range(len(batch.item_O)):
                if batch.patient_O[o] == patient and batch.item_O[o] == item:
                    z = (batch.value_O[o].item() - made.mean_I[item].item()) / made.std_I[item].item()
                    t = batch.time_O[o].item() / SCHEMA.horizon_hours
                    angles = [math.pi * f * t for f in range(1, FREQUENCIES + 1)]
                    clock = torch.tensor([t, *map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)
                    h_K = gelu(
                        max(-CLIP, min(CLIP, z)) * made.slope_IK[item] + made.offset_IK[item] + made.clock(clock)
                    )
                    seen.append(made.mix(h_K))
            if not seen:
                item_ID.append(made.absent_ID[item])
                continue
            h_OK = torch.stack(seen)
            raised_OQ = made.score(h_OK).exp()
            width = 8 // made.queries
            pooled = [
                (h_OK[:, q * width : (q + 1) * width] * raised_OQ[:, q : q + 1]).sum(0) / raised_OQ[:, q].sum()
                for q in range(made.queries)
            ]
            count = torch.tensor([math.log(1 + len(seen))], dtype=torch.float64)
            item_ID.append(torch.cat([*pooled, h_OK.max(0).values, count]) @ made.pool_IXD[item])
        rows = []
        for run in patches(5, tokens):
            z_D = sum(item_ID[i] for i in run)
            rows.append(z_D + made.adapter(gelu(z_D)))
        out.append(torch.stack(rows))
    return torch.stack(out)


@given(seed=st.integers(0, 10**6), tokens=st.sampled_from([1, 2, 5, 9]))
def test_equals_the_loop(seed, tokens):
    made, batch = encoder(tokens), draw(seed)
    found = made(batch)
    assert found.shape == (5, token_count(SCHEMA, settings({"model.tokens": tokens}).model), 8)
    torch.testing.assert_close(found, slow(made, batch, tokens), rtol=1e-10, atol=1e-10)


KINDS = pytest.mark.parametrize("kind", ["items", "set"])


@KINDS
@given(seed=st.integers(0, 10**6))
def test_order_of_observations_does_not_matter(kind, seed):
    made, batch = encoder(**{"model.encoders.series": kind}), draw(seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(batch.item_O)))
    shuffled = replace(
        batch,
        time_O=batch.time_O[order],
        item_O=batch.item_O[order],
        value_O=batch.value_O[order],
        patient_O=batch.patient_O[order],
    )
    torch.testing.assert_close(made(shuffled), made(batch), rtol=1e-11, atol=1e-11)


@KINDS
def test_patients_do_not_see_each_other(kind):
    made, batch = encoder(**{"model.encoders.series": kind}), draw(4)
    for patient in range(5):
        mine = batch.patient_O == patient
        alone = SeriesBatch(
            batch.time_O[mine], batch.item_O[mine], batch.value_O[mine], torch.zeros_like(batch.item_O[mine]), 1
        )
        torch.testing.assert_close(made(alone)[0], made(batch)[patient], rtol=1e-11, atol=1e-11)


@KINDS
@pytest.mark.parametrize("most", [0, 1, 6])
def test_finite_with_gradient_also_without_observations(kind, most):
    made, batch = encoder(**{"model.encoders.series": kind}), draw(1, most=most)
    out = made(batch)
    assert torch.isfinite(out).all()
    out.square().sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    assert made.pool_IXD.grad is not None
    assert made.pool_IXD.grad.any() == (most > 0)


def test_gradient_is_exact():
    """Also through pooled attention, whose largest score is subtracted without gradient."""
    made, batch = encoder(), draw(2, patients=2, most=4)

    def of_scores(weight):
        return torch.func.functional_call(made, {"score.weight": weight}, (batch,)).sum(dim=(0, 1))

    assert torch.autograd.gradcheck(of_scores, (made.score.weight.detach().clone().requires_grad_(),))


def test_huge_scores_do_not_overflow():
    made = encoder()
    with torch.no_grad():
        made.score.weight.mul_(1e4)
    assert torch.isfinite(made(draw(3))).all()


@KINDS
def test_empty_batch(kind):
    assert encoder(**{"model.encoders.series": kind})(draw(patients=0)).shape == (0, 3, 8)


def test_statistics_by_hand():
    z_O, time_O = torch.tensor([3.0, 1.0, 5.0, 2.0]), torch.tensor([2.0, 1.0, 0.0, 0.0])
    found = statistics(z_O, time_O, torch.tensor([0, 0, 2, 0]), 3)
    # mean, first, last, lowest, highest, last − first, ln(1 + number)
    expected = [[2, 2, 3, 1, 3, 1, math.log(4)], [0] * 7, [5, 5, 5, 5, 5, 0, math.log(2)]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def test_the_set_is_seen_across_items():
    """An item's token depends on another item's value; with attention within items it does not."""
    batch = draw(6, patients=3, most=6)
    row = int((batch.item_O == batch.item_O[0]).nonzero()[0])
    changed = replace(batch, value_O=batch.value_O.clone())
    changed.value_O[row] += 3.0
    others = [t for t in range(5) if t != int(batch.item_O[row])]
    patient = int(batch.patient_O[row])
    for kind, sees in (("items", False), ("set", True)):
        made = encoder(9, **{"model.encoders.series": kind}).eval()
        before, after = made(batch)[patient, others], made(changed)[patient, others]
        assert torch.equal(before, after) != sees


def series(item_O, value_O) -> Series:
    number = len(item_O)
    offsets = np.array([0, number], dtype=np.int64)
    return Series(offsets, np.zeros(number, np.float32), np.array(item_O, np.int64), np.array(value_O, np.float32))


def test_fit_per_item():
    made = encoder()
    made.fit(series([0, 0, 0, 1, 2, 2], [1.0, 2.0, 6.0, 5.0, 36.6, 36.6]))
    assert made.mean_I.tolist() == pytest.approx([3.0, 5.0, 36.6, 0.0, 0.0], rel=1e-6)
    assert made.std_I.tolist() == pytest.approx([math.sqrt(14 / 3), 1.0, 1.0, 1.0, 1.0])


def test_fit_without_observations():
    made = encoder()
    made.fit(series([], []))
    assert made.mean_I.tolist() == [0.0] * 5
    assert made.std_I.tolist() == [1.0] * 5


def test_hiding_observations_in_training_only():
    batch, made = draw(5), encoder(**{"model.hide": 0.9})
    torch.testing.assert_close(made.eval()(batch), encoder()(batch))
    torch.manual_seed(0)
    assert not torch.allclose(made.train()(batch), made.eval()(batch))
