from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import ArpackNoConvergence
from torch.func import functional_call

from remind.config import ModelConfig
from remind.fusion.base import Context, build_fusion, group_of, registry
from remind_studies.analysis import gradients
from remind_studies.analysis.gradients import Jacobian, cosine, leading_direction, norm
from remind_studies.analysis.looks import block_names

NAMES, TOKENS = ("a", "b", "c"), (2, 3, 2)
PRESENCE_NM = torch.tensor([[1, 1, 0], [1, 0, 1], [1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 0], [1, 1, 1]]).bool()
LABEL_N = torch.tensor([0, 1, 1, 0, 1, 0, 1])


def model_of(fusion, routing=True):
    """A small model in float64, its block's parameters, and the true logits as their function."""
    config = ModelConfig(width=8, experts=4, heads=2, gate="always")
    model = build_fusion(fusion, Context(model=config, classes=2, modalities=NAMES, tokens=TOKENS), 0).double().eval()
    group_N = group_of(PRESENCE_NM)
    model.add_groups(group_N.tolist(), 0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():  # Φ_k too: at 0 it would be as if it were not there
            p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.1)
    tokens = [torch.randn(7, length, 8, generator=generator, dtype=torch.float64) for length in TOKENS]
    at = {name: model.get_parameter(name).detach() for name in block_names(model)}

    def outputs_of(rows):
        def outputs(parameters):
            parts = [z_BlD[rows] for z_BlD in tokens]
            output = functional_call(model, parameters, (parts, PRESENCE_NM[rows], group_N[rows], routing))
            return output.logits_BC.gather(1, LABEL_N[rows, None])[:, 0]

        return outputs

    return at, outputs_of


@cache
def direction_of_all():
    """That of the seven patients in the model of REMIND."""
    at, outputs_of = model_of("remind")
    return leading_direction(Jacobian([(outputs_of(torch.arange(7)), at)]))


def full(at, outputs):
    """J, a row at a time by plain autograd, (n, P)."""
    at = {name: p.clone().requires_grad_() for name, p in at.items()}
    values_N = outputs(at)
    rows = [
        torch.autograd.grad(v, list(at.values()), retain_graph=True, allow_unused=True, materialize_grads=True)
        for v in values_N
    ]
    return torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors.values()])


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("fusion", [method.name for method in registry.methods()])
def test_the_direction_is_that_of_the_full_ntk(fusion, routing):
    at, outputs_of = model_of(fusion, routing)
    outputs = outputs_of(torch.arange(7))
    j_NP = full(at, outputs)
    value_N, vector_NN = torch.linalg.eigh(j_NP @ j_NP.T)
    expected_P = vector_NN[:, -1] @ j_NP
    expected_P = expected_P * torch.sign(expected_P @ j_NP.mean(dim=0))

    found = leading_direction(Jacobian([(outputs, at)]))

    assert torch.allclose(flat(found.g), expected_P, rtol=1e-8, atol=1e-10 * float(expected_P.norm()))
    assert found.singular == pytest.approx(float(value_N[-1].sqrt()), rel=1e-9)
    assert float(flat(found.g) @ j_NP.mean(dim=0)) >= 0
    assert found.agreement == pytest.approx(abs(float(vector_NN[:, -1].sum())) / 7**0.5, rel=1e-6)


def test_the_products_are_those_of_the_full_jacobian():
    at, outputs_of = model_of("remind")
    outputs = outputs_of(torch.arange(7))
    jacobian, j_NP = Jacobian([(outputs, at)]), full(at, outputs)
    u_N = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(flat(jacobian.transposed_times(u_N)), u_N @ j_NP, atol=1e-10)
    v = {name: torch.full_like(p, 0.3) for name, p in at.items()}
    assert torch.allclose(jacobian.times(v), j_NP @ flat(v), atol=1e-10)


def test_the_block_is_what_all_groups_share():
    at, _ = model_of("remind")
    assert at.keys() == {name for name in at if name.startswith("blocks.")}
    assert "blocks.0.router.phi_DES" in at
    at, _ = model_of("attention")
    assert at
    assert not any(name.startswith(("head.", "groups.")) for name in at)


@given(st.permutations(range(7)))
def test_the_order_of_the_patients_does_not_matter(order):
    at, outputs_of = model_of("remind")
    one = direction_of_all()
    other = leading_direction(Jacobian([(outputs_of(torch.tensor(order)), at)]))
    assert cosine(one, other) == pytest.approx(1, abs=1e-9)
    assert norm(one.g) == pytest.approx(norm(other.g), rel=1e-9)


def test_patients_of_several_hospitals_are_as_those_of_one():
    at, outputs_of = model_of("remind")
    whole = direction_of_all()
    parts = leading_direction(Jacobian([(outputs_of(torch.arange(3)), at), (outputs_of(torch.arange(3, 7)), at)]))
    assert cosine(whole, parts) == pytest.approx(1, abs=1e-9)


def linear(j_NP):
    """Outputs whose Jacobian is this matrix."""
    return (lambda parameters: j_NP @ parameters["w"]), {"w": torch.zeros(j_NP.shape[1], dtype=j_NP.dtype)}


def test_the_sign_follows_the_mean_row():
    """Two of three patients pull left, so g does, whichever sign the eigenvector came with."""
    for sign in (1.0, -1.0):
        j_NP = sign * torch.tensor([[-1.0, 0.0], [-1.0, 0.1], [1.0, 0.0]], dtype=torch.float64)
        found = leading_direction(Jacobian([linear(j_NP)]))
        assert float(found.g["w"][0]) * sign < 0
        assert 0 < found.agreement < 1


def test_opposite_patients_are_found_although_their_gradients_cancel():
    """The start of the iteration must not be all ones, to which such an eigenvector is orthogonal."""
    j_NP = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    found = leading_direction(Jacobian([linear(j_NP)]))
    assert found.singular == pytest.approx(8**0.5)
    assert found.agreement == pytest.approx(0, abs=1e-9)


def test_opposed_groups_have_a_score_of_minus_one():
    one, other = (Jacobian([linear(sign * torch.ones(3, 2, dtype=torch.float64))]) for sign in (1, -1))
    assert cosine(leading_direction(one), leading_direction(other)) == pytest.approx(-1)


def test_one_patient_is_its_own_direction():
    row_1P = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    found = leading_direction(Jacobian([linear(row_1P)]))
    assert torch.allclose(found.g["w"], row_1P[0])
    assert found.singular == pytest.approx(5)


def test_gradients_that_vanish_have_no_direction():
    nothing = leading_direction(Jacobian([linear(torch.zeros(4, 3, dtype=torch.float64))]))
    assert nothing is None
    assert cosine(nothing, nothing) is None


def test_where_the_iteration_fails_the_whole_matrix_is_used(monkeypatch):
    def fails(*args, **kwargs):
        raise ArpackNoConvergence("no", np.empty(0), np.empty((0, 0)))

    at, outputs_of = model_of("remind")
    jacobian = Jacobian([(outputs_of(torch.arange(7)), at)])
    expected = leading_direction(jacobian)
    monkeypatch.setattr(gradients, "eigsh", fails)
    assert cosine(leading_direction(jacobian), expected) == pytest.approx(1, abs=1e-12)


def test_float32_is_near_float64():
    at, outputs_of = model_of("remind")
    exact = direction_of_all()
    j_NP = full(at, outputs_of(torch.arange(7)))
    rough = leading_direction(Jacobian([linear(j_NP.float())]))
    assert torch.nn.functional.cosine_similarity(rough.g["w"].double(), flat(exact.g), dim=0) > 1 - 1e-6
