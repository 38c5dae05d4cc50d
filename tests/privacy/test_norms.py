"""Norms of per-patient gradients in float32 are never too small, whatever model a coordinator chooses."""

import pytest
import torch

from remind.privacy.tape_parts import Outer, Whole, rows_of, squared_norms, weighted_sum

PATIENTS = 3
MEANS = [0.0, 1.0, 1e2, 1e4, 1e6, 1e8]


def outer(input_EPSI, grad_EPSO):
    experts, inputs, outputs = len(input_EPSI), input_EPSI.shape[3], grad_EPSO.shape[3]
    return Outer(torch.zeros(experts, inputs, outputs), input_EPSI, grad_EPSO, None, lambda sum_EIO: sum_EIO)


def cancelling(mean, experts, rows, inputs, outputs):
    """Inputs with this mean, and gradients whose rows add up to nearly nothing, as behind a softmax."""
    generator = torch.Generator().manual_seed(0)
    input_EPSI = torch.randn(experts, PATIENTS, rows, inputs, generator=generator, dtype=torch.float64) + mean
    grad_EPSO = torch.randn(experts, PATIENTS, rows, outputs, generator=generator, dtype=torch.float64)
    if rows > 1:
        grad_EPSO = grad_EPSO - grad_EPSO.mean(dim=2, keepdim=True)
    return outer(input_EPSI.float(), grad_EPSO.float())


def exact(part):
    """Norms of the products of what is given in float32, formed one by one in float64."""
    products = part.input_EPSI.double().transpose(2, 3) @ part.grad_EPSO.double()
    return products.square().sum(dim=(0, 2, 3)).sqrt()


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("shape", [(1, 64, 128, 512), (4, 2, 16, 8), (1, 5, 300, 2), (6, 1, 9, 7)], ids=str)
def test_a_clipped_patient_moves_the_sum_by_the_clip_at_most(mean, shape):
    """Without additions ⟨XXᵀ, DDᵀ⟩ is mere rounding from a mean of 10⁴ on: norms of 0, and nothing is clipped."""
    part, clip = cancelling(mean, *shape), 1e-3
    true_P = exact(part)
    norm_P = squared_norms([part], PATIENTS).sqrt()
    assert (norm_P.double() >= true_P * (1 - 1e-6)).all()
    if mean <= 1:
        torch.testing.assert_close(norm_P.double(), true_P, rtol=5e-3, atol=0)
    if part.is_small:  # as a tape does; a rounded gradient is what is summed, and has exactly this norm
        part = part.formed()
        norm_P = squared_norms([part], PATIENTS).sqrt()
    coefficient_P = clip / norm_P
    for patient in range(PATIENTS):
        alone_P = torch.where(torch.arange(PATIENTS) == patient, coefficient_P, 0.0)
        assert weighted_sum(part, alone_P).double().norm() <= clip * (1 + 1e-4)


@pytest.mark.parametrize("mean", MEANS)
def test_a_layer_of_several_uses_whose_gradients_cancel(mean):
    one, clip = cancelling(mean, 1, 3, 64, 64), 1e-3
    parts = [one, outer(one.input_EPSI, -one.grad_EPSO + 1e-3 * one.grad_EPSO.roll(1, dims=3))]
    both = outer(*(torch.cat([getattr(p, name) for p in parts], dim=2) for name in ("input_EPSI", "grad_EPSO")))
    norm_P = squared_norms(parts, PATIENTS).sqrt()
    assert (norm_P.double() >= exact(both) * (1 - 1e-6)).all()
    for patient in range(PATIENTS):
        alone_P = torch.where(torch.arange(PATIENTS) == patient, clip / norm_P, 0.0)
        moved = torch.stack([weighted_sum(part, alone_P).double() for part in parts]).sum(dim=0)
        assert moved.norm() <= clip * (1 + 1e-2)


@pytest.mark.parametrize("mean", MEANS)
def test_a_parameter_of_several_uses_whose_gradients_cancel(mean):
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(PATIENTS, 50, generator=generator) for _ in range(2))
    parameter, clip = torch.zeros(50), 1e-3
    parts = [Whole(parameter, one + mean, None), Whole(parameter, other - mean, None)]
    norm_P = squared_norms(parts, PATIENTS).sqrt()
    true_P = torch.stack([part.grad_P.double() for part in parts]).sum(dim=0).norm(dim=1)
    assert (norm_P.double() >= true_P * (1 - 1e-6)).all()
    if mean <= 1:
        torch.testing.assert_close(norm_P.double(), true_P, rtol=1e-4, atol=0)
    for patient in range(PATIENTS):
        alone_P = torch.where(torch.arange(PATIENTS) == patient, clip / norm_P, 0.0)
        moved = torch.stack([weighted_sum(part, alone_P).double() for part in parts]).sum(dim=0)
        assert moved.norm() <= clip * (1 + 1e-3)
    torch.testing.assert_close(rows_of(parts, PATIENTS), one + mean + (other - mean))


@pytest.mark.parametrize("rows", [1, 4])
def test_factors_that_are_too_small_for_their_squares_count(rows):
    """Inputs of 10⁻²³ and gradients of 10¹⁸: the squares of the first are 0 in float32, their product is not."""
    part = outer(torch.full((2, PATIENTS, rows, 40), 1e-23), torch.full((2, PATIENTS, rows, 50), 1e17))
    assert exact(part).min() > 1e-6
    assert (squared_norms([part], PATIENTS).sqrt().double() >= exact(part)).all()


def test_in_float64_the_addition_is_far_below_what_tests_compare():
    part = cancelling(0.5, 1, 64, 128, 512)
    part = outer(part.input_EPSI.double(), part.grad_EPSO.double())
    torch.testing.assert_close(squared_norms([part], PATIENTS).sqrt(), exact(part), rtol=1e-11, atol=0)
