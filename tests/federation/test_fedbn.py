"""FedBN: what it takes for a normalisation layer, by its name, is one, in every fusion model."""

import pytest

from remind.federation.rules.fedbn import is_norm
from remind.fusion.base import registry
from tests.builders.fusions import context, model


@pytest.mark.parametrize("name", [m.name for m in registry.methods()])
def test_the_layers_that_stay_are_those_that_normalise(name):
    fusion = model(name, context())
    layers = [n for n, m in fusion.named_modules() if "Norm" in type(m).__name__]
    expected = {f"fusion.{layer}.{p}" for layer in layers for p in ("weight", "bias")}
    assert {f"fusion.{n}" for n, _ in fusion.named_parameters() if is_norm(f"fusion.{n}")} == expected


def test_an_encoder_is_none_of_its_business():
    assert not is_norm("encoders.note.norm.weight")
