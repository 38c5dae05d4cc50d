"""Modality dropout: it never hides all modalities, never adds one, and has the stated rate."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remind.fusion.base import FusionOptions, registry
from remind.fusion.modality_dropout import drop_modalities
from tests.builders.fusions import accuracy_after_training, problem


@given(modalities=st.integers(1, 9), rate=st.sampled_from([0.0, 0.2, 0.9, 0.999]), seed=st.integers(0, 10**6))
def test_a_nonempty_part_of_what_was_there(modalities, rate, seed):
    generator = torch.Generator().manual_seed(seed)
    presence = torch.rand(50, modalities, generator=generator) < 0.5
    presence[torch.arange(50), torch.randint(modalities, (50,), generator=generator)] = True
    kept = drop_modalities(presence, rate, generator)
    assert not (kept & ~presence).any()
    assert kept.any(dim=1).all()
    assert rate > 0 or torch.equal(kept, presence)


def test_rates():
    # Two modalities, rate p: both kept (1−p)², else one of the two, each as likely.
    presence = torch.tensor([[True, False, True]]).expand(40_000, 3)
    kept = drop_modalities(presence, 0.6, torch.Generator().manual_seed(0))
    share = {tuple(row): 0.0 for row in kept.unique(dim=0).tolist()}
    for row in share:
        share[row] = (kept == torch.tensor(row)).all(dim=1).double().mean().item()
    assert share[True, False, True] == pytest.approx(0.16, abs=0.01)
    assert share[True, False, False] == pytest.approx(0.42, abs=0.01)
    assert share[False, False, True] == pytest.approx(0.42, abs=0.01)


@pytest.mark.parametrize("name", ["early", "intermediate", "late", "attention"])
def test_simple_methods_learn_with_it(name):
    accuracy = accuracy_after_training(name, problem(2), steps=60, seed=0, options="modality-dropout = 0.3")
    assert accuracy > 0.75


def test_every_method_takes_it():
    for method in registry.methods():
        assert issubclass(method.options, FusionOptions)
        assert registry.choose(f"{method.name}(modality-dropout = 0.3)")[1].modality_dropout == 0.3


def test_a_generator_may_lie_elsewhere_than_the_patients():
    presence = torch.ones(4, 3, dtype=torch.bool, device="meta")
    assert drop_modalities(presence, 0.5, torch.Generator().manual_seed(0)).device.type == "meta"
