"""FedBN: what stays at a site are the parameters of normalisation layers, in every fusion model and every encoder."""

import pytest
from torch import nn

from remind.federation.rules.fedbn import norms_of
from remind.fusion.base import registry
from tests.builders.fusions import context, model


def named(whole):
    return {n for n, _ in whole.named_parameters()}


@pytest.mark.parametrize("name", [m.name for m in registry.methods()])
def test_of_a_fusion_model_those_stay_whose_layer_has_norm_in_its_name(name):
    fusion = model(name, context(), groups=(3, 5))
    expected = {n for n in named(fusion) if n.rpartition(".")[0].rpartition(".")[2].endswith("norm")}
    assert norms_of(fusion) == expected


def test_of_an_encoder_those_stay_that_normalise_whatever_their_name():
    class RootNorm(nn.Module):
        """A library's own."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(nn.init.ones_(nn.Linear(3, 1).weight[0]))

    transformer = nn.TransformerEncoderLayer(8, 2, 16)
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)),
        nn.GroupNorm(2, 8),
        nn.InstanceNorm2d(8, affine=True),
        nn.InstanceNorm2d(8),
        RootNorm(),
    )
    whole = nn.ModuleDict({"a": transformer, "b": backbone})
    layers = ["a.norm1", "a.norm2", "b.1.1", "b.2", "b.3"]
    assert norms_of(whole) == {f"{layer}.{p}" for layer in layers for p in ("weight", "bias")} | {"b.5.weight"}
