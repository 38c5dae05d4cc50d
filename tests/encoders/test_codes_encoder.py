"""Codes → tokens against a loop over patients, queries and codes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import gelu

from remind.data.cohort.kinds.codes import CodesBatch, CodesSchema
from remind.encoders import build_encoder, token_count
from remind.encoders.codes import LARGEST, QUERIES, SPREADING, some
from tests.builders.encoders import config, without_gradient

LISTED = CodesSchema(name="c", vocabulary=tuple("abcdefg"))
OPEN = CodesSchema(name="c")
BUCKETS = 16


def encoder(schema=OPEN, tokens=3, seed=0, **changes):
    changes = {"model.tokens": tokens, "model.encoders.buckets": BUCKETS} | changes
    return build_encoder(schema, config(changes), seed).double()


def draw(seed=0, patients=5, schema=OPEN, fewest=1) -> CodesBatch:
    rng = np.random.default_rng(seed)
    count_P = rng.integers(fewest, 7, size=patients)
    highest = 7 if schema.vocabulary else 2**63 - 1
    return CodesBatch(
        torch.from_numpy(rng.integers(highest, size=int(count_P.sum()))),
        torch.from_numpy(np.repeat(np.arange(patients), count_P)),
        patients,
    )


def slow(made, batch: CodesBatch, schema) -> torch.Tensor:
    out = []
    for patient in range(batch.patients):
        rows = []
        for code, owner in zip(batch.code_O.tolist(), batch.patient_O.tolist(), strict=True):
            if owner != patient:
                continue
            if schema.vocabulary:
                rows.append(made.embedding.weight[code])
            else:
                digits = code % BUCKETS, code // BUCKETS % BUCKETS
                rows.append((made.embedding.weight[digits[0]] + made.embedding.weight[digits[1]]) / math.sqrt(2))
        for q in range(made.score.out_features):
            raised = [math.exp((made.score.weight[q] @ row + made.score.bias[q]).item()) for row in rows]
            z_D = sum((r / sum(raised) * row for r, row in zip(raised, rows, strict=True)), start=torch.zeros(8))
            z_D = z_D + math.log(1 + len(rows)) * made.number_lD[q]
            out.append(z_D + made.adapter(gelu(z_D)))
    return torch.stack(out).view(batch.patients, -1, 8)


@pytest.mark.parametrize("schema", [LISTED, OPEN])
@pytest.mark.parametrize("tokens", [1, 3, 9])
def test_equals_the_loop(schema, tokens):
    made, batch = encoder(schema, tokens), draw(schema=schema, fewest=0)
    found = made(batch)
    count = token_count(schema, config({"model.tokens": tokens}))
    assert found.shape == (5, count, 8)
    assert count == min(tokens, QUERIES)
    torch.testing.assert_close(found, slow(made, batch, schema), rtol=1e-10, atol=1e-10)


@given(seed=st.integers(0, 10**6))
def test_order_does_not_matter(seed):
    made, batch = encoder(), draw(seed)
    order_O = torch.from_numpy(np.random.default_rng(seed).permutation(len(batch.code_O)))
    shuffled = CodesBatch(batch.code_O[order_O], batch.patient_O[order_O], batch.patients)
    torch.testing.assert_close(made(batch), made(shuffled))


def test_patients_do_not_influence_each_other():
    made, batch = encoder(), draw()
    together = made(batch)
    for patient in range(batch.patients):
        own_O = batch.patient_O == patient
        alone = CodesBatch(batch.code_O[own_O], torch.zeros(int(own_O.sum()), dtype=torch.int64), 1)
        torch.testing.assert_close(made(alone)[0], together[patient])


def test_codes_that_share_a_row_are_told_apart():
    made = encoder()
    a, b = 5, 5 + 3 * BUCKETS
    tokens = made(CodesBatch(torch.tensor([a, b]), torch.tensor([0, 1]), 2))
    assert a % BUCKETS == b % BUCKETS
    assert not torch.allclose(tokens[0], tokens[1])


def test_extreme_scores_stay_finite():
    made = encoder()
    with torch.no_grad():
        made.score.weight.mul_(1e4)
    out = made(draw())
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in made.parameters())


@pytest.mark.parametrize("schema", [LISTED, OPEN])
def test_gradients_reach_every_parameter(schema):
    made = encoder(schema)
    assert without_gradient(made, draw(schema=schema)) == []


@given(seed=st.integers(0, 10**6), hide=st.floats(0.01, 0.99))
def test_nobody_loses_all_codes(seed, hide):
    batch = draw(seed)
    torch.manual_seed(seed)
    kept_O = some(batch.patient_O, batch.patients, hide)
    assert set(batch.patient_O[kept_O].tolist()) == set(range(batch.patients))


def test_the_share_asked_for_is_hidden():
    patient_O = torch.arange(50).repeat_interleave(400)
    torch.manual_seed(0)
    hidden = 1 - some(patient_O, 50, 0.3).double().mean().item()
    assert hidden == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / len(patient_O)))


def test_hiding_happens_in_training_only():
    made, batch = encoder(**{"model.hide": 0.9}), draw()
    torch.manual_seed(0)
    hidden = made.train()(batch)
    assert not torch.allclose(hidden, made.eval()(batch))
    torch.testing.assert_close(made.eval()(batch), encoder().eval()(batch))


def test_half_precision_by_autocast():
    made, batch = encoder().float(), draw()
    exact = made(batch)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(made(batch).float(), exact, rtol=0.1, atol=0.1)


def test_the_same_at_every_site_for_the_same_seed():
    a, b, other = encoder(seed=3), encoder(seed=3), encoder(seed=4)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.embedding.weight, other.embedding.weight)


def test_state_comes_back():
    made, other = encoder(seed=0), encoder(seed=1)
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(made(draw()), other(draw()))


def test_a_vocabulary_longer_than_the_buckets_is_hashed():
    """Memory follows `buckets`, and codes still differ from each other."""
    words = tuple(f"c{i}" for i in range(5000))
    made = encoder(CodesSchema(name="c", vocabulary=words), **{"model.encoders.buckets": 512})
    assert made.embedding.weight.shape[0] == 512
    code_O = torch.arange(5000)
    rows_OD = made._embed(code_O)
    assert len(torch.unique(rows_OD.detach(), dim=0)) > 4950
    used = torch.zeros(512)
    used[(((code_O + 1) * SPREADING) & LARGEST) % 512] = 1
    assert used.mean() > 0.9, "every row is in use"
    short = encoder(CodesSchema(name="c", vocabulary=words[:512]), **{"model.encoders.buckets": 512})
    assert torch.equal(short._embed(torch.tensor([7])), short.embedding.weight[7:8])
