"""Which tensors a site accepts into its model, and which it refuses."""

import pytest
import torch

from remind.federation.install import install
from remind.global_model import GlobalModel
from remind.training.site_model import SiteModel
from tests.builders.cohorts import NAMES, schema
from tests.builders.configs import settings

SHARED = settings({"federation.encoders": "shared"})


def arriving(groups, modalities=()):
    """Tensors of a global model, each at a value of its own."""
    model = GlobalModel.build(SHARED, schema(), [1, 3, 6])
    return {name: torch.full_like(t, i + 1.0) for i, (name, t) in enumerate(model.select(groups, modalities).items())}


def site_model(has=NAMES):
    return SiteModel(schema(), SHARED, has)


def test_everything_arrives_where_it_belongs():
    model, sent = site_model(), arriving([1, 6], ["a"])
    received = install(model, sent, encoders_shared=True, seed=0)
    assert set(received) == set(sent)
    assert model.fusion.known_groups() == (1, 6)
    parameters = dict(model.named_parameters())
    for name, tensor in sent.items():
        assert parameters[name] is received[name]
        assert torch.equal(parameters[name], tensor)
    assert not any(name.startswith("encoders.b") for name in received)


def test_groups_come_and_go_with_the_messages():
    model = site_model()
    install(model, arriving([1, 6]), False, 0)
    install(model, arriving([3, 6]), False, 0)
    assert model.fusion.known_groups() == (3, 6)


def test_local_encoders_are_not_touched():
    model = site_model()
    before = {n: t.clone() for n, t in model.encoders.state_dict().items()}
    install(model, arriving([1]), False, 0)
    assert all(torch.equal(t, before[n]) for n, t in model.encoders.state_dict().items())


def without(tensors, name):
    return {n: t for n, t in tensors.items() if n != name}


@pytest.mark.parametrize(
    ("tensors", "shared", "words"),
    [
        (arriving([1], ["a"]), False, "not one that this site accepts"),
        (arriving([1]) | {"fusion.extra": torch.ones(1)}, False, "not one that this site accepts"),
        (arriving([1]) | {"fusion.head.bias": torch.ones(3)}, False, r"has shape \(3,\), here \(2,\)"),
        (without(arriving([1]), "fusion.head.bias"), False, "missing: fusion.head.bias"),
        (without(arriving([1]), "fusion.groups.1.missing_D"), False, "missing: fusion.groups.1.missing_D"),
        (arriving([1]) | {"nonsense": torch.ones(1)}, False, "not the name of a tensor"),
    ],
)
def test_what_does_not_belong_is_refused(tensors, shared, words):
    with pytest.raises(ValueError, match=words):
        install(site_model(), tensors, shared, 0)


def test_an_encoder_the_site_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"encoders\.b"):
        install(site_model(has=["a", "c"]), arriving([1], ["b"]), True, 0)
