"""Soft MoE is REMIND with shared routing."""

import pytest
import torch

from remind.fusion.experts import combine_weights
from tests.builders.fusions import context, model, noisy, patients

GROUPS = (5, 2, 7, 5, 1)


@pytest.mark.parametrize("settings", [{}, {"blocks": 2, "slots": 2, "experts": 3, "router": "raw"}])
@pytest.mark.parametrize("routing", [True, False])
def test_equals_remind_whose_residuals_are_zero(settings, routing):
    of = context(gate="always", **settings)
    fusion = noisy(model("softmoe", of, (1, 2, 5)))
    remind = model("remind", of, (1, 2, 5, 7))
    strange = remind.load_state_dict(fusion.state_dict(), strict=False)
    assert strange.unexpected_keys == []
    assert {name.split(".")[0] for name in strange.missing_keys} == {"groups"}
    assert {f"groups.{g}.residual_LDES" for g in (1, 2, 5, 7)} <= set(strange.missing_keys)
    batch = patients(of, GROUPS)
    output, expected = batch.given_to(fusion, routing), batch.given_to(remind, routing)
    torch.testing.assert_close(output.logits_BC, expected.logits_BC, rtol=0, atol=1e-6)
    torch.testing.assert_close(output.use_BE, expected.use_BE, rtol=0, atol=1e-6)


def test_routing_changes_nothing():
    of = context()
    fusion = noisy(model("softmoe", of, GROUPS))
    batch = patients(of, GROUPS)
    assert torch.equal(batch.given_to(fusion, True).logits_BC, batch.given_to(fusion, False).logits_BC)


def test_an_unseen_group_has_the_mean_embedding():
    of = context()
    fusion = model("softmoe", of, (1, 2, 6))
    with_group = model("softmoe", of, (1, 2, 6, 5))
    with torch.no_grad():
        mean = torch.stack([fusion.groups[k].missing_D for k in ("1", "2", "6")]).mean(0)
        with_group.groups["5"].missing_D.copy_(mean)
    batch = patients(of, (5, 5))
    torch.testing.assert_close(batch.given_to(fusion).logits_BC, batch.given_to(with_group).logits_BC)


def test_the_full_group_needs_no_parameters():
    assert model("softmoe", context(), (7, 3)).known_groups() == (3,)


def test_use_is_the_mean_combine_weight():
    of = context(slots=2)
    fusion = noisy(model("softmoe", of, GROUPS).double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    seen = []
    fusion.blocks[0].moe.register_forward_hook(lambda _, inputs, __: seen.append(inputs[1]))
    use = batch.given_to(fusion).use_BE
    (logits,) = seen
    weight = combine_weights(logits)
    for b in range(len(GROUPS)):
        for e in range(weight.shape[2]):
            expected = sum(weight[b, t, e, s].item() for t in range(weight.shape[1]) for s in range(2))
            assert use[b, e].item() == pytest.approx(expected / weight.shape[1])
