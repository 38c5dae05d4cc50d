"""The More-vs-Fewer ranking loss and the drawing of pairs."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remind.fusion.more_vs_fewer import draw_fewer, more_vs_fewer


def test_loss_of_pairs():
    more = torch.tensor([1.0, 3.0, 2.0])
    fewer = torch.tensor([2.0, 1.0, 2.0])
    assert more_vs_fewer(more, fewer).tolist() == pytest.approx([3.0, 4.0 + 0.1 * 2.0, 4.0])
    assert more_vs_fewer(more, fewer, 0.5).tolist() == pytest.approx([3.0, 5.0, 4.0])


def test_ranking_pushes_the_two_losses_apart_only_where_more_is_worse():
    more = torch.tensor([1.0, 3.0], requires_grad=True)
    fewer = torch.tensor([2.0, 1.0], requires_grad=True)
    more_vs_fewer(more, fewer, 0.1).sum().backward()
    assert more.grad.tolist() == pytest.approx([1.0, 1.1])
    assert fewer.grad.tolist() == pytest.approx([1.0, 0.9])


@given(modalities=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_a_strict_nonempty_part_where_there_is_one(modalities, seed):
    generator = torch.Generator().manual_seed(seed)
    presence = torch.rand(60, modalities, generator=generator) < 0.5
    presence[torch.arange(60), torch.randint(modalities, (60,), generator=generator)] = True
    before = presence.clone()
    fewer = draw_fewer(presence, generator)
    assert torch.equal(presence, before)
    assert not (fewer & ~presence).any()
    assert fewer.any(dim=1).all()
    one = presence.sum(dim=1) == 1
    assert torch.equal(fewer[one], presence[one])
    assert (fewer[~one].sum(dim=1) < presence[~one].sum(dim=1)).all()


def test_all_parts_are_equally_likely():
    presence = torch.tensor([[True, True, False, True]]).expand(30_000, 4)
    fewer = draw_fewer(presence, torch.Generator().manual_seed(0))
    parts = [(a, b, False, c) for a, b, c in itertools.product([True, False], repeat=3) if 0 < a + b + c < 3]
    for part in parts:
        share = (fewer == torch.tensor(part)).all(dim=1).double().mean().item()
        assert share == pytest.approx(1 / 6, abs=0.01)


def test_sixty_modalities_are_as_fast_as_two():
    fewer = draw_fewer(torch.ones(100, 60, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert 0.4 < fewer.double().mean() < 0.6


def test_drawn_from_torchs_randomness_without_a_generator():
    presence = torch.ones(20, 5, dtype=torch.bool)
    torch.manual_seed(5)
    first = draw_fewer(presence)
    torch.manual_seed(5)
    assert torch.equal(draw_fewer(presence), first)
