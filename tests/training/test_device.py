"""Precision, device, compilation: other numbers of the same model, the same results within tolerance."""

import numpy as np
import pytest
import torch

from remind.config import Config
from remind.data.batches.batch import SiteData
from remind.encoders import Encoder
from remind.errors import UserError
from remind.methods import methods_of
from remind.training.device import Precision, choose_device, compile_backbones, prepare
from remind.training.evaluate import evaluate
from remind.training.local import build_optimizer
from remind.training.sampling import Step
from remind.training.site_data import FreshTokens
from remind.training.site_model import SiteModel
from remind.training.work import LocalWork, RoundSettings
from tests.builders.cohorts import NAMES, cohort
from tests.builders.configs import settings
from tests.builders.sites import CPU

GROUPS = [1, 2, 3, 5, 7] * 6
ROWS = np.arange(len(GROUPS))


def measured(precision, train=True):
    """Loss per group after three steps, in this precision."""
    config = settings({"precision": precision, "train.lr": 0.01, "train.optimizer": "sgd", "method.objective": "erm"})
    patients = cohort(GROUPS)
    chosen = Precision.of(config, CPU)
    model = SiteModel(patients.schema, config, NAMES)
    model.fusion.add_groups([1, 2, 3, 5, 7], 0)
    prepare(model, chosen, CPU)
    source, objective = FreshTokens(model, SiteData(patients, chosen.dtype)), methods_of(config).objective
    if train:
        plan = [Step(ROWS, np.full(len(ROWS), 1 / len(ROWS)))] * 3
        optimizer = build_optimizer(config.train, model, True)
        LocalWork(model, objective, source, RoundSettings(lr=0.05, routing=True), plan, optimizer).steps()
    assert {p.dtype for p in model.parameters()} == {chosen.dtype}, "autocast leaves weights as they are"
    return np.array([s.loss for s in evaluate(model, source, ROWS, objective, routing=True).values()])


@pytest.mark.parametrize("train", [False, True])
def test_bfloat16_autocast_is_near_float32_and_not_the_same(train):
    exact, single, half = (measured(p, train) for p in ("float64", "float32", "bfloat16"))
    np.testing.assert_allclose(single, exact, rtol=1e-4)
    np.testing.assert_allclose(half, exact, rtol=0.05)
    assert np.abs(half - exact).max() > np.abs(single - exact).max()


def test_auto_is_float32_on_a_cpu_and_autocast_on_a_gpu():
    config = Config()
    assert Precision.of(config, CPU) == Precision(torch.float32, autocast=False)
    assert Precision.of(config, torch.device("cuda")) == Precision(torch.float32, autocast=True)


def test_a_device_that_is_not_here_is_a_users_mistake():
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("cuda:99", "gpu"):
        with pytest.raises(UserError, match=f"device: '{name}'"):
            choose_device(name)


def test_compiled_backbones_keep_their_names(monkeypatch):
    """What is compiled is the backbone, in place; the compiler itself is torch's and not run here."""
    from remind.data.cohort.kinds.pictures import ImageSchema
    from remind.data.cohort.schema import CohortSchema

    schema = CohortSchema(name="x", classes=("a", "b"), modalities=(ImageSchema(name="i", size=(32, 32), channels=1),))
    config = settings({"model.encoders.image-weights": "random", "compile": "always"})
    model = SiteModel(schema, config, ["i"])
    before, calls = set(model.state_dict()), []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: calls.append((module, options)))
    compile_backbones(model, config, CPU)
    encoder = model.encoders["i"]
    assert isinstance(encoder, Encoder)
    assert calls == [(encoder.core(), {"dynamic": True})]
    assert set(model.state_dict()) == before
    compile_backbones(model, settings({"model.encoders.image-weights": "random"}), CPU)
    assert len(calls) == 1, "auto: not on a CPU"
