"""Per-patient gradients of the real model equal a loop over patients, and the step fails closed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from remind.fusion.base import registry
from remind.privacy.tape import Tape
from remind.privacy.tape_parts import restricted, squared_norms, weighted_sum
from remind.training.private.gradients import Clipping, PrivateGradients
from remind.training.private.layers import require_recorded
from tests.builders.private_steps import GROUPS, SECRET, check, given, setting


@pytest.mark.parametrize("gate", ["entropy", "always", "never", "kl"])
@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("router", ["cosine", "raw"])
def test_remind_equals_a_loop(gate, slots, router):
    work = setting({"model.gate": gate, "model.slots": slots, "model.router": router, "model.blocks": 2})
    if gate in ("entropy", "kl"):  # open for some patients
        assert any(0 < opened(work, threshold / 200) < 1 for threshold in range(0, 200, 8))
    check(work)


@torch.no_grad()
def opened(work, threshold):
    """The share of open gates; the threshold stays."""
    for block in work.model.fusion.blocks:
        block.threshold = threshold
    one = given(work, list(range(len(GROUPS))), [1.0] * len(GROUPS))
    return work.model.eval().fuse(one.tokens_BMD, one.batch.presence_Bm, one.batch.group_B, routing=True).open_B.mean()


@pytest.mark.parametrize(
    ("groups", "index"), [((1, 2, 3, 5, 6, 7), (0, 2, 5, 6)), ((3,), (0, 1, 2, 3, 4)), ((), (0, 4)), ((7,), (4,))]
)
def test_groups_known_and_unknown_present_and_absent(groups, index):
    check(setting(groups=groups), index)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.projection": True},
        {"model.encoders.periodic": 2},
        {"model.gate": "never", "train.ranking": 0.5},
        {"model.width": 4, "model.tokens": 1, "model.experts": 1},
        {"method.objective": "groupdro", "train.focal-gamma": 0.0},
    ],
    ids=str,
)
def test_what_stands_around_the_model(changes, monkeypatch):
    monkeypatch.setattr("remind.objectives.base.draw_fewer", lambda presence_Bm, generator: first_hidden(presence_Bm))
    check(setting(changes))


@pytest.mark.parametrize("big", [float("inf"), float("nan"), 1e200])
@pytest.mark.parametrize("where", ["loss", "tokens"])
@pytest.mark.parametrize("slots", [1, 3])
def test_a_patient_whose_gradient_overflows_counts_as_zero_and_leaves_the_others_as_they_are(big, where, slots):
    """A model can be chosen so that this happens for one patient; neither a refusal nor the sum may tell that."""
    work, index, weights = setting({"model.slots": slots}), list(range(8)), np.linspace(0.5, 2.0, 8)
    private = PrivateGradients(work.model, Clipping(0.1, 0.0, 1.0), SECRET, "q")
    spoilt_B = torch.ones(8, dtype=torch.float64)
    spoilt_B[3] = big
    with private.recording(noisy=False):
        step = given(work, index, weights)
        if where == "loss":
            step = replace(step, weight_B=step.weight_B * spoilt_B)
        else:
            step = replace(step, tokens_BMD=step.tokens_BMD * spoilt_B[:, None, None])
        found = private.clipped_sum(work.objective, step)
    without = [i for i in index if i != 3]
    with private.recording(noisy=False):
        expected = private.clipped_sum(work.objective, given(work, without, weights[without]))
    assert all(torch.isfinite(norm) for i, norm in enumerate(found.norm_B) if i != 3)
    if torch.isfinite(found.norm_B[3]):  # then it is clipped like any other
        assert big == 1e200
        return
    for name, total in found.sums.items():
        of_others = expected.sums.get(name, torch.zeros_like(total))
        torch.testing.assert_close(total, of_others, rtol=1e-9, atol=1e-13, msg=name)


def test_a_module_that_computes_each_patient_by_itself_leaves_out_who_overflows():
    layer, inputs = (
        torch.nn.Linear(2, 1).double(),
        torch.tensor([[1.0, 2.0], [float("inf"), 1.0], [3.0, -1.0]]).double(),
    )
    tape = Tape()
    joined_P = tape.separate([layer(row[None]) for row in inputs], list(layer.parameters()))
    (grad_P,) = torch.autograd.grad(joined_P.sum(), [joined_P])
    weight, bias = tape.records[0].parts(grad_P)
    assert torch.isfinite(squared_norms([weight], 3)).tolist() == [True, False, True]
    coefficients = torch.tensor([0.5, 0.0, 2.0]).double()
    total = weighted_sum(restricted(weight, coefficients > 0), coefficients)
    torch.testing.assert_close(total, (0.5 * inputs[0] + 2 * inputs[2])[None])
    assert weighted_sum(bias, torch.zeros(3).double()).tolist() == [0.0]


def test_frozen_encoders_are_no_part_of_the_norm():
    found = check(setting(trains=False))
    assert not any(name.startswith("encoders.") for name in found.sums)


def first_hidden(presence_Bm):
    """Without the first modality of those who have several: no coin, so that a loop draws the same."""
    first_Bm = presence_Bm & (presence_Bm.cumsum(dim=1) == 1)
    return presence_Bm & ~(first_Bm & (presence_Bm.sum(dim=1, keepdim=True) > 1))


@pytest.mark.parametrize("name", [method.name for method in registry.methods()])
def test_every_fusion_model_is_right_or_refused(name, monkeypatch):
    """A model that is admitted equals the loop; `test_refusals` shows that the others are refused by name."""
    monkeypatch.setattr("remind.fusion.simmlm.draw_fewer", first_hidden)
    options = "(modality_dropout = 0.0)" if name == "mmformer" else ""
    work = setting({"method.fusion": name + options, "model.dropout": 0.0})
    if not work.model.fusion.private:
        return
    require_recorded(work.model)
    check(work)
