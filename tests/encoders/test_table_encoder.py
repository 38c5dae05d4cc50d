"""Tables → tokens against a loop over patients, columns and patches."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remind.config import ModelConfig
from remind.data.cohort.kinds.table import Table, TableSchema
from remind.encoders import build_encoder, token_count
from remind.encoders.base import patches
from remind.encoders.standardise import moments
from remind.encoders.table import CLIP
from tests.builders.configs import settings

NAN = math.nan
SCHEMA = TableSchema(
    name="t",
    columns=("age", "sex", "lactate", "unit", "weight"),
    categories={"sex": ("f", "m"), "unit": ("a", "b", "c")},
)


def config(tokens=3, **changes) -> ModelConfig:
    return settings({"model.tokens": tokens} | changes).model


def encoder(schema=SCHEMA, tokens=3, seed=0):
    return build_encoder(schema, config(tokens), seed).double()


def values(seed=0, number=6) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    values_BF = 50 * rng.normal(size=(number, 5))
    values_BF[:, 1], values_BF[:, 3] = rng.integers(2, size=number), rng.integers(3, size=number)
    values_BF[rng.random((number, 5)) < 0.3] = NAN
    return torch.from_numpy(values_BF)


def slow(made, values_BF: torch.Tensor, tokens: int) -> torch.Tensor:
    """Every column's features, patch by patch, written out."""
    out = []
    for row in values_BF.tolist():
        features_F = []
        for f, column in enumerate(SCHEMA.columns):
            levels, missing = len(SCHEMA.categories.get(column, ())), math.isnan(row[f])
            if levels:
                shown = [1.0 if not missing and int(row[f]) == level else 0.0 for level in range(levels)]
            else:
                z = 0.0 if missing else (row[f] - made.mean_F[f].item()) / made.std_F[f].item()
                shown = [max(-CLIP, min(CLIP, z))]
            features_F.append([*shown, float(missing)])
        tokens_lD = []
        for t, run in enumerate(patches(5, tokens)):
            x_P = torch.tensor([x for f in run for x in features_F[f]], dtype=torch.float64)
            z_D = x_P @ made.weight_lPD[t, : len(x_P)] + made.bias_lD[t]
            tokens_lD.append(z_D + made.adapter(torch.nn.functional.gelu(z_D)))
        out.append(torch.stack(tokens_lD))
    return torch.stack(out)


@pytest.mark.parametrize("tokens", [1, 2, 3, 5, 9])
def test_equals_the_loop(tokens):
    made, values_BF = encoder(tokens=tokens), values()
    made.fit(Table(values(seed=1, number=40).float().numpy()))
    found = made(values_BF)
    assert found.shape == (6, min(tokens, 5), 8) == (6, token_count(SCHEMA, config(tokens)), 8)
    torch.testing.assert_close(found, slow(made, values_BF, tokens), rtol=1e-10, atol=1e-10)


def test_nothing_leaks_out_of_missing_values():
    made, values_BF = encoder(), values()
    values_BF[2] = NAN
    out = made(values_BF)
    assert torch.isfinite(out).all(), "also of a patient with nothing"
    out.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in made.parameters())


@pytest.mark.parametrize("extreme", [1e30, -1e30, math.inf, -math.inf])
def test_outliers_are_clipped(extreme):
    values_BF = values()
    values_BF[0, 0] = extreme
    clipped = values_BF.clone()
    clipped[0, 0] = math.copysign(CLIP, extreme)
    made = encoder()
    torch.testing.assert_close(made(values_BF), made(clipped))


def test_a_missing_number_is_not_the_mean():
    made = encoder()
    row = torch.tensor([[NAN, 0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 1.0, 2.0, 3.0]], dtype=torch.float64)
    out = made(row)
    assert not torch.allclose(out[0], out[1])


@given(seed=st.integers(0, 10**6), number=st.integers(1, 20))
def test_fit_takes_the_observed_values_of_numeric_columns(seed, number):
    values_NF = values(seed, number).float().numpy()
    made = encoder()
    made.fit(Table(values_NF))
    for f, column in enumerate(SCHEMA.columns):
        seen = values_NF[~np.isnan(values_NF[:, f]), f].astype(np.float64)
        expected = (0.0, 1.0) if column in SCHEMA.categories else moments(seen)
        assert (made.mean_F[f].item(), made.std_F[f].item()) == pytest.approx(expected, rel=1e-6)


def test_constant_columns_are_left_alone():
    """Values that single precision cannot distinguish must not be scaled up to CLIP."""
    made = encoder()
    values_NF = np.tile(np.array([36.6, 0, 1.1, 0, 7.3], np.float32), (3, 1))
    made.fit(Table(values_NF))
    assert made.std_F.tolist() == [1.0] * 5
    torch.testing.assert_close(made.mean_F, torch.tensor([36.6, 0, 1.1, 0, 7.3]).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["given", "none"])
def test_statistics_that_are_given_stay(kind):
    given_ = {"mean": {"x": 5.0, "y": -1.0}, "std": {"x": 2.0, "y": 4.0}} if kind == "given" else {}
    made = encoder(TableSchema(name="t", columns=("x", "y"), standardise=kind, **given_))
    made.fit(Table(np.array([[100, 200], [300, 500]], dtype=np.float32)))
    assert made.mean_F.tolist() == ([5.0, -1.0] if kind == "given" else [0.0, 0.0])
    assert made.std_F.tolist() == ([2.0, 4.0] if kind == "given" else [1.0, 1.0])


@given(columns=st.integers(1, 60), tokens=st.integers(1, 20))
def test_patches_are_consecutive_and_nearly_equal(columns, tokens):
    runs = patches(columns, tokens)
    assert [f for run in runs for f in run] == list(range(columns))
    assert len(runs) == min(columns, tokens)
    assert max(map(len, runs)) - min(map(len, runs)) <= 1


def test_empty_batch():
    assert encoder()(values()[:0]).shape == (0, 3, 8)


def test_the_same_at_every_site_for_the_same_seed():
    torch.manual_seed(1)
    a = encoder(seed=3)
    torch.manual_seed(2)
    b, other = encoder(seed=3), encoder(seed=4)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.weight_lPD, other.weight_lPD)


def test_hiding_happens_in_training_only():
    made = build_encoder(SCHEMA, config(**{"model.hide": 0.9}), 0).double()
    values_BF = values()
    torch.manual_seed(0)
    hidden = made.train()(values_BF)
    assert not torch.allclose(hidden, made.eval()(values_BF))
    torch.testing.assert_close(made.eval()(values_BF), encoder().eval()(values_BF))


KINDS = [
    {"model.encoders.numbers": "quantile"},
    {"model.encoders.periodic": 3},
    {"model.encoders.table": "features"},
    {"model.encoders.table": "features", "model.encoders.periodic": 2, "model.encoders.numbers": "quantile"},
]


@pytest.mark.parametrize("changes", KINDS)
@pytest.mark.parametrize("tokens", [1, 3, 9])
def test_every_tokeniser_keeps_the_properties_of_a_table(changes, tokens):
    made = build_encoder(SCHEMA, config(tokens, **changes), 0).double().eval()
    made.fit(Table(values(seed=1, number=60).float().numpy()))
    values_BF = values()
    values_BF[2] = NAN
    out = made(values_BF)
    assert out.shape == (6, min(tokens, 5), 8) == (6, token_count(SCHEMA, config(tokens, **changes)), 8)
    torch.testing.assert_close(made(values_BF[[4, 1]]), out[[4, 1]])  # tokens depend only on their own patient
    assert torch.isfinite(out).all()
    out.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in made.parameters())
    extreme = values()
    extreme[0, 0] = 1e30
    clipped = extreme.clone()
    clipped[0, 0] = 1e29
    torch.testing.assert_close(made(extreme), made(clipped))
    missing, mean = values_BF.clone(), values_BF.clone()
    missing[0, 0], mean[0, 0] = NAN, dict(made.named_buffers())["mean_F"][0]
    assert not torch.allclose(made(missing)[0], made(mean)[0])


def test_quantiles_do_not_depend_on_the_unit_of_a_number():
    """Logarithm, unit, outliers: only the order of a column's values counts."""
    changes = {"model.encoders.numbers": "quantile"}
    values_NF = np.abs(values(seed=1, number=300).float().numpy()) + 1
    values_NF[:, 1], values_NF[:, 3] = 0, 1
    other_NF = values_NF.copy()
    other_NF[:, 0] = values_NF[:, 0] * 1000
    one, other = (build_encoder(SCHEMA, config(3, **changes), 0).double() for _ in range(2))
    one.fit(Table(values_NF))
    other.fit(Table(other_NF))
    a, b = (m(torch.from_numpy(v).double()) for m, v in ((one, values_NF), (other, other_NF)))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
