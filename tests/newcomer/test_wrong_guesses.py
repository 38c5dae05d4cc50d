"""A newcomer's wrong guess is one message that names the class and what it must do."""

import pytest
import torch
from torch import nn

from remind.config import Config
from remind.data.batches.batch import SiteData
from remind.data.cohort.cohort import TRAIN
from remind.data.cohort.kinds.table import TableSchema
from remind.encoders import base as encoders
from remind.encoders.base import Encoder
from remind.federation.rules.base import Rule
from remind.fusion.base import FusionModel, FusionOptions, FusionOutput
from remind.methods_list import KINDS
from remind.registry import Options, Registry
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.fusions import context
from tests.builders.sites import site

CONTEXT = context()


def registry(base, options=Options):
    """A registry of the test's own, beside the real one."""
    return Registry("method.mine", "tests.newcomer", base, options)


def add(build, base, **more):
    return registry(base).register("mine", title="t", paper="p", year=2030, **more)(build)


class Model(FusionModel):
    def __init__(self, context, options):
        super().__init__(context, options)
        self.head = nn.Linear(context.width, context.classes)

    def fuse(self, tokens, presence_Bm, group_B, routing):
        return self.answer(torch.cat(list(tokens), dim=1))

    def answer(self, tokens_BMD):
        return FusionOutput(self.head(tokens_BMD.mean(dim=1)))


class Logits(Model):
    def answer(self, tokens_BMD):
        return self.head(tokens_BMD.mean(dim=1))


class Unpooled(Model):
    def answer(self, tokens_BMD):
        return FusionOutput(self.head(tokens_BMD))


class TooWide(Model):
    def answer(self, tokens_BMD):
        return FusionOutput(tokens_BMD.mean(dim=1))


def predicted(build):
    tokens = [torch.ones(2, count, CONTEXT.width) for count in CONTEXT.tokens]
    presence_Bm = torch.ones(2, len(CONTEXT.modalities), dtype=torch.bool)
    return build(CONTEXT, FusionOptions()).eval()(tokens, presence_Bm, torch.full((2,), CONTEXT.full))


def test_a_fusion_model_that_is_right_passes():
    assert predicted(Model).logits_BC.shape == (2, CONTEXT.classes)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (Logits, "Logits.fuse must return a FusionOutput, not a Tensor"),
        (Unpooled, r"Unpooled.fuse: logits_BC has the shape \(2, \d+, \d+\); it must have \(B, \d+\)"),
        (TooWide, r"TooWide.fuse: logits_BC has the shape \(2, \d+\); it must have \(B, \d+\)"),
    ],
)
def test_a_fusion_model_is_told_what_it_must_return(build, says):
    with pytest.raises(TypeError, match=says):
        predicted(build)


class Flat(Encoder):
    """Forgets the dimension of tokens."""

    def __init__(self, schema, config):
        super().__init__(schema, config)
        self.linear = nn.Linear(len(schema.columns), config.width)

    @staticmethod
    def token_count(schema, config):
        return 1

    def forward(self, inputs):
        return self.linear(inputs.nan_to_num())


class OneToken(Flat):
    """Announces two tokens and makes one."""

    @staticmethod
    def token_count(schema, config):
        return 2

    def forward(self, inputs):
        return super().forward(inputs).unsqueeze(1)


@pytest.mark.parametrize(("build", "count"), [(Flat, 1), (OneToken, 2)])
def test_an_encoder_is_told_the_shape_that_it_must_return(tmp_path, monkeypatch, build, count):
    encoders.encoders()
    monkeypatch.setattr(encoders, "_USUAL", dict(encoders._USUAL))
    known = encoders.encoders()["table"][1]
    monkeypatch.setattr(known, "_methods", dict(known._methods))
    encoders.register(TableSchema, "mine", title="t")(build)
    config = Config.from_flat(BASE | {"model.encoders.choice": "table: mine"})
    engine = site("s", cohort([1, 3, 7] * 5), config, tmp_path).engine
    batch = SiteData(engine.patients.cohort, torch.float32, torch.device("cpu")).batch(engine.patients.index[TRAIN])
    shape = rf"\(P, {count}, {config.model.width}\)"
    says = f"{build.__name__}.forward returned the shape .* for modality 'a', and must return {shape}"
    with pytest.raises(TypeError, match=says):
        engine.model.tokens(batch)


class Misspelt(Rule):
    def sever_step(self, model, average, memory):
        return average, memory


class Helper(Rule):
    def momentum(self, model):
        return model


def test_a_function_with_nearly_the_name_of_a_hook_is_refused():
    with pytest.raises(TypeError, match="Misspelt defines sever_step, which nothing calls; did you mean 'server_step'"):
        add(Misspelt, Rule)
    assert add(Helper, Rule) is Helper


@pytest.mark.parametrize(
    ("build", "base", "says"),
    [
        (type("Empty", (FusionModel,), {}), FusionModel, "Empty must define fuse"),
        (nn.Linear, FusionModel, "Linear must derive from remind.fusion.base.FusionModel"),
    ],
)
def test_a_class_that_cannot_be_a_method_is_refused(build, base, says):
    with pytest.raises(TypeError, match=says):
        add(build, base)


def test_options_derive_from_those_of_the_folder():
    class Loose(Options):
        pass

    with pytest.raises(TypeError, match=r"Loose must derive from remind\.fusion\.base\.FusionOptions"):
        registry(FusionModel, FusionOptions).register("mine", title="t", paper="p", year=1, options=Loose)(Model)


def test_no_method_of_ours_is_refused():
    assert all(registry.methods() for _, registry in KINDS)


def test_parameters_to_merge_need_a_merge():
    with pytest.raises(TypeError, match=r"Pool has parameters to merge \(pool_CD\) and must define merge"):
        type("Pool", (Model,), {"merged": ("pool_CD",)})
    whole = type("Whole", (Model,), {"merged": ("pool_CD",), "merge": classmethod(lambda cls, name, replies, own: own)})
    assert predicted(whole).logits_BC.shape == (2, CONTEXT.classes)
