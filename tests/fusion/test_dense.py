"""The dense head: only present sequences count, fused tokens steer it, SimMLM mixes the masks of its experts."""

import numpy as np
import pytest
import torch

from remind.data.batches.lazy import Request
from remind.fusion.base import group_of, registry
from remind.fusion.simmlm import MoreAndFewer
from tests.builders.masks import small_model

ABLE = [one.name for one in registry.methods() if not one.build.outcomes and not one.build.masks]


def batch_of(data, *rows):
    return next(data.batches([Request(np.array(rows))]))


@pytest.mark.parametrize("fusion", ABLE)
def test_masks_have_a_logit_per_region_and_voxel_and_every_part_learns(fusion):
    model, data = small_model(fusion)
    batch = batch_of(data, *range(8))
    assert batch.presence_Bm.all(dim=0).logical_not().any()
    for routing in (False, True):
        model.train().zero_grad()
        output = model.fuse(model.tokens(batch), batch.presence_Bm, batch.group_B, routing)
        assert output.logits_BC.shape == (8, 3 * 8**3)
        output.total_loss(batch.target, model.outcome.loss).sum().backward()
        moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        assert any(name.startswith("encoders.flair.levels.0") for name in moved)
        assert {f"fusion.dense.{part}" for part in ("out.weight", "steer.weight", "adapters.0.3.weight")} <= moved
        steering = [name for name in moved if name.startswith("fusion.") and not name.startswith("fusion.dense")]
        assert any("head" in name for name in steering)


@pytest.mark.parametrize("fusion", ["remind", "simmlm", "attention"])
def test_what_an_absent_sequence_holds_changes_nothing(fusion):
    model, data = small_model(fusion)
    batch = batch_of(data, *range(6))
    tokens = model.eval().tokens(batch)
    lacking = batch.presence_Bm.clone()
    lacking[:, 1] = False
    lacking[~lacking.any(dim=1), 0] = True
    group = group_of(lacking)
    spoiled = tokens.clone()
    start = sum(model.counts.values()) + model.map_rows["t1"]
    spoiled[:, start : start + model.map_rows["t1ce"]] = torch.nan
    places = list(model.counts.values())
    spoiled[:, places[0] : places[0] + places[1]] = torch.nan
    found = [model.fuse(one, lacking, group, True).logits_BC for one in (tokens, spoiled)]
    assert torch.isfinite(found[0]).all()
    assert torch.equal(*found)
    with_it = model.fuse(tokens, batch.presence_Bm, batch.group_B, True).logits_BC
    has = batch.presence_Bm[:, 1]
    assert not torch.allclose(with_it[has], found[0][has])


def test_a_patient_does_not_depend_on_the_others_of_the_batch():
    model, data = small_model()
    whole, one = batch_of(data, *range(6)), batch_of(data, 4)
    model.eval()
    outputs = [
        model.fuse(model.tokens(batch), batch.presence_Bm, batch.group_B, True).logits_BC for batch in (whole, one)
    ]
    torch.testing.assert_close(outputs[0][4], outputs[1][0], rtol=0, atol=1e-10)


def test_simmlm_mixes_the_masks_of_single_sequences():
    model, data = small_model("simmlm")
    batch = batch_of(data, *range(6))
    model.eval()
    tokens = model.tokens(batch)
    for routing in (False, True):
        output = model.fuse(tokens, batch.presence_Bm, batch.group_B, routing)
        expected = torch.zeros_like(output.logits_BC)
        for i in range(4):
            alone = torch.zeros_like(batch.presence_Bm)
            alone[:, i] = True
            own = model.fuse(tokens, alone, group_of(alone), routing).logits_BC
            expected += output.use_BE[:, i : i + 1] * own * batch.presence_Bm[:, i : i + 1]
        torch.testing.assert_close(output.logits_BC, expected, rtol=0, atol=1e-10)


def test_pairs_of_simmlm_are_of_the_same_volumes():
    model, data = small_model("simmlm")
    batch = batch_of(data, *range(6))
    model.train()
    output = model.fuse(model.tokens(batch), batch.presence_Bm, batch.group_B, True)
    assert isinstance(output, MoreAndFewer)
    fewer_Bm = output.fewer_weight_Bm > 0
    assert (fewer_Bm <= batch.presence_Bm).all()
    assert (fewer_Bm.sum(dim=1) < batch.presence_Bm.sum(dim=1)).any()
    expected = (output.fewer_weight_Bm.unsqueeze(2) * output.expert_BmC).sum(dim=1)
    torch.testing.assert_close(output.fewer_BC, expected)
    one, few = (model.outcome.loss(x, batch.target) for x in (output.logits_BC, output.fewer_BC))
    total = output.total_loss(batch.target, model.outcome.loss)
    torch.testing.assert_close(total, one + few + 0.1 * torch.relu(one - few))
