"""The interface of fusion models: the registry, its errors, and a new method in one file."""

import sys
from dataclasses import dataclass

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

import remind.fusion
from remind.config import ModelConfig
from remind.errors import UserError
from remind.fusion.base import Context, FusionModel, FusionOutput, build_fusion, group_of, registry
from remind.groups import MAX_MODALITIES, masks
from remind.registry import Registry
from tests.builders.fusions import context, cross_entropy, model, patients

SPEC = {
    "remind",
    "softmoe",
    "flexmoe",
    "fusemoe",
    "moe_retriever",
    "simmlm",
    "early",
    "intermediate",
    "late",
    "attention",
}
FIFTEENTH = """
import torch
from pydantic import Field
from torch import nn

from remind.fusion.base import FusionModel, FusionOutput, FusionOptions, registry


class FifteenthOptions(FusionOptions):
    bias: float = Field(0.0, description="of every class")


@registry.register("fifteenth", title="says the same of everyone", paper="none", year=2030, options=FifteenthOptions)
class Fifteenth(FusionModel):
    def __init__(self, context, options):
        super().__init__(context, options)
        self.prior_C = nn.Parameter(torch.full((context.classes,), options.bias))

    def fuse(self, tokens, presence_Bm, group_B, routing):
        return FusionOutput(self.prior_C.expand(len(group_B), -1))
"""


def test_lists_every_method_of_the_specification():
    listed = {m.name: m for m in registry.methods()}
    assert set(listed) >= SPEC
    for m in listed.values():
        assert m.title
        assert "\n" not in m.title
        assert m.paper
        assert 1990 < m.year < 2100
        assert registry.choose(m.signature()) == (m, m.options())
        assert all(field.description for field in m.options.model_fields.values())


def test_a_file_in_the_folder_is_all_it_takes(tmp_path, monkeypatch):
    (tmp_path / "fifteenth.py").write_text(FIFTEENTH)
    monkeypatch.setattr(remind.fusion, "__path__", [*remind.fusion.__path__, str(tmp_path)])
    known = dict(registry._methods)
    monkeypatch.setattr(registry, "_methods", known)
    try:
        fusion = build_fusion("fifteenth(bias = 2.5)", context(), 0)
        output = patients(context(), (5, 7)).given_to(fusion)
        assert output.logits_BC.tolist() == [[2.5] * 3] * 2
        assert "fifteenth" in {m.name for m in registry.methods()}
    finally:
        sys.modules.pop("remind.fusion.fifteenth", None)


def test_it_is_the_registry_that_all_folders_use():
    assert isinstance(registry, Registry)
    with pytest.raises(ValueError, match=r"two methods of remind\.fusion are named 'late'"):
        registry.register("late", title="again", paper="", year=2024)(FusionModel)


def test_an_unknown_method_is_answered_with_those_there_are():
    with pytest.raises(
        UserError, match=r"method\.fusion: there is no 'flexmo'; did you mean 'flexmoe'\?; there are attention"
    ):
        build_fusion("flexmo", context(), 0)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("experts = 3, top-k = 4", "top_k 4 is more than the 3 experts"),
        ("expert = 3", "expert: there is no such option; did you mean 'experts'?"),
        ("experts = 1, top-k = 1", "experts: Input should be greater than or equal to 2"),
        ("auxiliary = -1.0", "auxiliary: Input should be greater than or equal to 0"),
        ("modality-dropout = 1.0", "modality-dropout: Input should be less than 1"),
    ],
)
def test_options_that_do_not_fit_are_named_beside_those_that_do(options, problem):
    with pytest.raises(UserError) as caught:
        build_fusion(f"flexmoe({options})", context(), 0)
    assert problem in str(caught.value)
    assert "experts = 16, top-k = 4, auxiliary = 0.01" in str(caught.value)


def test_context_fits_together():
    with pytest.raises(ValidationError, match="2 token counts for 3 modalities"):
        Context(model=ModelConfig(), classes=2, modalities=("a", "b", "c"), tokens=(1, 2))
    with pytest.raises(ValidationError, match="modalities"):
        Context(model=ModelConfig(), classes=2, modalities=(), tokens=())
    of = context(3, width=12, dropout=0.25)
    assert (of.width, of.heads, of.dropout, of.full) == (12, 2, 0.25, 7)


def test_groups_of_tensors_are_groups_of_arrays():
    presence = torch.rand(40, MAX_MODALITIES, generator=torch.Generator().manual_seed(0)) < 0.5
    assert group_of(presence).tolist() == masks(presence.numpy()).tolist()


def test_loss_is_the_criterion_plus_the_auxiliary_term():
    logits, label = torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 0])
    plain = FusionOutput(logits).loss(label, cross_entropy)
    assert torch.equal(plain, cross_entropy(logits, label))
    extra = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(FusionOutput(logits, auxiliary_B=extra).loss(label, cross_entropy), plain + extra)


@dataclass(frozen=True, kw_only=True)
class Wider(FusionOutput):
    more_BC: Tensor
    presence_Bm: Tensor
    factor: float


def test_cast_reaches_whatever_a_method_adds_and_keeps_what_is_no_float():
    output = Wider(torch.ones(2, 3), more_BC=torch.zeros(2, 3), presence_Bm=torch.ones(2, 2).bool(), factor=0.5)
    cast = output.cast(torch.float64)
    assert isinstance(cast, Wider)
    assert cast.logits_BC.dtype == cast.more_BC.dtype == torch.float64
    assert cast.presence_Bm.dtype == torch.bool
    assert (cast.factor, cast.open_B, cast.use_BE) == (0.5, None, None)


def test_a_projection_begins_as_none_and_never_touches_what_is_absent():
    of, plain = context(projection=True, gate="always"), context(gate="always")
    given = patients(of, [1, 3, 7])
    projected, bare = model("remind", of, (1, 3, 7)), model("remind", plain, (1, 3, 7))
    torch.testing.assert_close(given.given_to(projected).logits_BC, given.given_to(bare).logits_BC)
    with torch.no_grad():
        projected.projection.weight_mDD.normal_()
        projected.projection.bias_mD.normal_()
    changed = given.given_to(projected).logits_BC
    assert not torch.allclose(changed, given.given_to(bare).logits_BC)
    with torch.no_grad():
        projected.projection.weight_mDD[2].normal_()
        projected.projection.bias_mD[2].normal_()
    again = given.given_to(projected).logits_BC
    assert torch.equal(again[:2], changed[:2]), "the third modality is absent there"
    assert not torch.equal(again[2], changed[2])
