"""The support pool: which patients support which, how many, and whether draws repeat."""

import pytest
import torch

from remind.fusion.support import TokenPool
from remind.groups import members
from tests.builders.fusions import context, model, noisy, patients

GROUPS = [7, 7, 5, 3, 1, 6, 2, 7, 4, 5]


def pool(generator=None, seed=0):
    of = context()
    batch = patients(of, GROUPS)
    for i, z in enumerate(batch.tokens):
        z[:] = torch.arange(len(GROUPS))[:, None, None] * 10.0 + i  # tokens that identify their patient
    return TokenPool(batch.tokens, batch.presence, seed, generator), of


def who(drawn):
    """Patient and modality of drawn tokens (P, n, l, D)."""
    assert (drawn == drawn[:, :, :1, :1]).all()
    value = drawn[:, :, 0, 0]
    return (value // 10).long().tolist(), {int(v) % 10 for v in value.flatten().tolist()}


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 6])
def test_support_has_all_of_the_group_and_the_missing_modality(group, fixed):
    support, of = pool(torch.Generator().manual_seed(0))
    for missing in members(of.full & ~group):
        able = {n for n, g in enumerate(GROUPS) if g & group == group and g >> missing & 1}
        drawn = support.draw(group, missing, 60, fixed)
        expected = min(len(members(group)), len(able))
        assert drawn.shape == (60, expected, of.tokens[missing], of.width)
        chosen, modality = who(drawn)
        assert modality == {missing}
        for row in chosen:
            assert set(row) <= able
            assert len(set(row)) == expected, "without replacement"
        everyone = {n for row in chosen for n in row}
        assert everyone == (set(chosen[0]) if fixed else able)


def test_nobody_supports():
    of = context()
    lonely = patients(of, [1, 2, 2])
    drawn = TokenPool(lonely.tokens, lonely.presence, 0).draw(1, 2, 4, fixed=False)
    assert drawn.shape == (4, 0, of.tokens[2], of.width)
    assert TokenPool(lonely.tokens, lonely.presence, 0).draw(1, 2, 4, fixed=True).shape[1] == 0


def test_fixed_draws_repeat_and_leave_randomness_alone():
    support, _ = pool()
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = support.draw(1, 1, 2, fixed=True)
    assert torch.equal(torch.rand(1), expected)
    support.draw(1, 1, 2, fixed=False)
    assert torch.equal(support.draw(1, 1, 5, fixed=True)[:2], first)
    assert torch.equal(pool()[0].draw(1, 1, 2, fixed=True), first)
    assert any(not torch.equal(pool(seed=s)[0].draw(1, 1, 2, fixed=True), first) for s in range(1, 9))


def test_other_draws_come_from_the_generator():
    one, _ = pool(torch.Generator().manual_seed(4))
    other, _ = pool(torch.Generator().manual_seed(4))
    assert torch.equal(one.draw(3, 2, 50, fixed=False), other.draw(3, 2, 50, fixed=False))
    assert not torch.equal(one.draw(1, 2, 50, fixed=False), other.draw(1, 2, 51, fixed=False)[1:])


def test_draws_are_uniform():
    support, _ = pool(torch.Generator().manual_seed(0))
    able = [n for n, g in enumerate(GROUPS) if (g & 3 == 1 + 2 - 2 and g >> 2 & 1) or g == 7]  # 1 and 4
    drawn, _ = who(support.draw(1, 2, 20_000, fixed=False))
    counts = torch.bincount(torch.tensor(drawn).flatten(), minlength=len(GROUPS))
    assert set(counts.nonzero().flatten().tolist()) == set(able)
    assert (counts[able].double() / 20_000 - 1 / len(able)).abs().max() < 0.02


def test_patients_to_compare_with_are_always_the_same_and_absent_tokens_are_0():
    support, of = pool()
    tokens, presence = support.patients(4)
    assert presence.shape == (4, len(of.tokens))
    again, _ = pool()[0].patients(4)
    assert all(torch.equal(a, b) for a, b in zip(tokens, again, strict=True))
    chosen = set()
    for i, z in enumerate(tokens):
        assert z.shape == (4, of.tokens[i], of.width)
        assert not z[~presence[:, i]].any()
        chosen |= {int(v // 10) for v in z[presence[:, i], 0, 0].tolist()}
    assert len(chosen) == 4
    assert len(support.patients(100)[1]) == len(GROUPS)


@pytest.mark.parametrize("name", ["moe_retriever", "muse", "m3care"])
def test_tokens_of_others_pass_the_projection_too(name):
    """Support with tokens x and a projection z ↦ 3z equals support with tokens 3x and no projection."""
    of = context(projection=True)
    batch, others = patients(of, (5, 6, 1), dtype=torch.float64), patients(of, [7, 7, 3], seed=9, dtype=torch.float64)
    logits = []
    for factor in (3.0, 1.0):
        fusion = noisy(model(name, of).double())
        with torch.no_grad():
            fusion.projection.bias_mD.zero_()
            fusion.projection.weight_mDD.copy_((factor - 1) * torch.eye(of.width).expand(3, -1, -1))
        scale = 3.0 / factor
        pool = TokenPool([z * scale for z in others.tokens], others.presence, 0)
        fusion.set_support(pool)
        logits.append(fusion([z * scale for z in batch.tokens], batch.presence, batch.group).logits_BC)
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-9)
    assert logits[0].isfinite().all()
