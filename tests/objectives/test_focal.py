"""Focal loss against a loop from its definition, and its exact gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remind.objectives.focal import focal_loss


@given(classes=st.integers(2, 5), gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]), seed=st.integers(0, 10**6))
def test_equals_the_loop(classes, gamma, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(6, classes, dtype=torch.float64, generator=generator)
    label = torch.randint(classes, (6,), generator=generator)
    for row, y, loss in zip(logits.tolist(), label.tolist(), focal_loss(logits, label, gamma).tolist(), strict=True):
        raised = [math.exp(v) for v in row]
        p = raised[y] / sum(raised)
        assert loss == pytest.approx(-((1 - p) ** gamma) * math.log(p), abs=1e-10)


def test_gradient_is_exact():
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    label = torch.tensor([0, 2, 1, 1])
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, label, 2.0), (logits,))


def test_certainty_has_finite_gradient():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0]), 0.5).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_gamma_zero_is_cross_entropy():
    logits, label = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    expected = torch.nn.functional.cross_entropy(logits, label, reduction="none")
    torch.testing.assert_close(focal_loss(logits, label, 0.0), expected)
