"""Routers and embeddings composed of parts per modality, and routers of low rank, which share between groups."""

import pytest
import torch

from remind.config import Config
from remind.errors import UserError
from remind.fusion.base import build_fusion
from remind.methods import methods_of
from tests.builders.fusions import context, model, patients

GROUPS = (1, 3, 5, 7)
OF = context(experts=4, slots=2, gate="always", blocks=2)


def perturbed(options, groups=GROUPS, own=True):
    fusion = model("remind", OF, groups, options=options).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in sorted(fusion.named_parameters()):
            if name.startswith("parts.") or (own and name.startswith("groups.")):
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return fusion


def logits(fusion, groups):
    return patients(OF, groups, dtype=torch.float64).given_to(fusion).logits_BC


def test_composed_is_plain_remind_with_the_sums_put_in():
    composed, plain = perturbed("compose = true"), model("remind", OF, GROUPS).double()
    parts = dict(composed.parts.named_parameters())
    with torch.no_grad():
        shared = {n: p for n, p in composed.named_parameters() if not n.startswith(("parts.", "groups."))}
        plain.load_state_dict(shared, strict=False)
        for k in GROUPS:
            own, whole = composed.groups[str(k)], plain.groups[str(k)]
            has = [i for i in range(3) if k >> i & 1]
            whole.residual_LDES.copy_(own.residual_LDES + sum(parts["residual_mLDES"][i] for i in has))
            if k != 7:
                whole.missing_D.copy_(own.missing_D + sum(parts["missing_mD"][i] for i in has))
    torch.testing.assert_close(logits(composed, GROUPS), logits(plain, GROUPS), rtol=0, atol=1e-12)


def test_a_combination_never_seen_has_the_router_of_its_modalities():
    composed = perturbed("compose = true", own=False)
    known = model("remind", OF, (*GROUPS, 6), options="compose = true").double()
    known.load_state_dict(composed.state_dict(), strict=False)  # nothing was learned for group 6
    assert torch.equal(logits(composed, [6, 2, 4]), logits(known, [6, 2, 4]))
    with torch.no_grad():
        composed.parts.residual_mLDES[2].add_(1.0)
    changed, before = logits(composed, [6, 2, 4]), logits(known, [6, 2, 4])
    assert torch.equal(changed[1], before[1]), "group 2 lacks the third modality"
    assert not torch.allclose(changed[[0, 2]], before[[0, 2]])


def test_parts_learn_from_every_group_and_the_rest_from_its_own():
    fusion = perturbed("compose = true")
    logits(fusion, [3, 3]).square().sum().backward()
    grad_mLDES = fusion.parts.residual_mLDES.grad
    assert grad_mLDES[:2].abs().sum() > 0
    assert not grad_mLDES[2].any()
    assert fusion.groups["3"].residual_LDES.grad.abs().sum() > 0
    assert fusion.groups["5"].residual_LDES.grad is None or not fusion.groups["5"].residual_LDES.grad.any()


@pytest.mark.parametrize("options", ["rank = 1", "rank = 2", "compose = true, rank = 1"])
def test_low_rank(options):
    fresh, plain = model("remind", OF, GROUPS, options=options).double(), model("remind", OF, GROUPS).double()
    assert all(not own.residual().any() for own in fresh.groups.values())
    rank = int(options[-1])
    found = perturbed(options).groups["5"].residual()
    assert found.shape == plain.groups["5"].residual_LDES.shape
    assert torch.linalg.matrix_rank(found.flatten(2)).tolist() == [rank, rank]
    size = sum(p.numel() for n, p in fresh.groups["5"].named_parameters() if "residual" in n)
    assert size == 2 * rank * (8 + 4 * 2)


def test_what_is_shared_begins_as_without_parts():
    plain = dict(model("remind", OF, GROUPS).named_parameters())
    composed = dict(model("remind", OF, GROUPS, options="compose = true").named_parameters())
    assert all(torch.equal(composed[n], p) for n, p in plain.items() if not n.startswith("groups."))


def test_without_parts_the_model_is_as_it_was():
    assert not any(name.startswith("parts.") for name, _ in model("remind", OF, GROUPS).named_parameters())


def test_what_does_not_fit_is_refused():
    for options in (
        "compose = true, residual = 'sine'",
        "rank = 2, residual = 'sine'",
        "compose = true, missing = 'zero'",
    ):
        with pytest.raises(UserError):
            build_fusion(f"remind({options})", OF, 0)
    with pytest.raises(UserError, match=r"train\.shrink"):
        methods_of(Config.from_flat({"train.shrink": 1.0, "method.fusion": "softmoe"}))
