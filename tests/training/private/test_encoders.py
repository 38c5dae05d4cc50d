"""Encoders of every kind train in a private step: patients' gradients equal a loop, or they are refused by name."""

import numpy as np
import pytest
import torch
from torch import nn

from remind.config import Config
from remind.data.synthetic.generate import generate
from remind.encoders import needs_fit
from remind.errors import UserError
from remind.privacy.tape import current_tape
from remind.training.private.admission import admit
from remind.training.private.gradients import Clipping, PrivateGradients
from remind.training.private.layers import require_recorded
from remind.training.site_model import SiteModel
from tests.builders.private_encoders import KINDS, work_of
from tests.builders.private_steps import SECRET, check, given


def some_patients(patients):
    """Two patients of each combination, as those lacking a modality stand between those who have it."""
    return [int(i) for k in (1, 2, 3) for i in np.flatnonzero(patients.groups_N == k)[:2]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_an_encoder_equals_a_loop(kind):
    work, patients, config = work_of(*KINDS[kind])
    assert not any(needs_fit(modality, config.model) for modality in patients.schema.modalities)
    admit(work.model, patients.schema, config)
    found = check(work, some_patients(patients))
    trained = {n for n, p in work.model.named_parameters() if n.startswith("encoders.") and p.requires_grad}
    assert trained <= set(found.sums)


@pytest.mark.parametrize("kind", ["words", "series"])
def test_nobody_with_the_modality_and_one_patient(kind):
    work, patients, _ = work_of(*KINDS[kind])
    without = [int(i) for i in np.flatnonzero(patients.groups_N == 2)[:2]]
    check(work, without)
    check(work, [int(np.flatnonzero(patients.groups_N == 1)[0])])


def test_a_batch_norm_is_refused_with_the_remedy():
    work, patients, config = work_of("image, table", KINDS["image"][1] | {"model.encoders.image": "test_resnet"})
    with pytest.raises(UserError, match=r"normalises over the patients of a batch.*group or layer norm, or freeze"):
        admit(work.model, patients.schema, config)


class Remembers(nn.Module):
    """Keeps a running mean of what it sees."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 0.1 * (x.detach().mean() - self.seen)
        return x - self.seen


def test_what_keeps_statistics_of_patients_stops_the_step():
    work, patients, _ = work_of(*KINDS["codes"])
    name = next(iter(work.model.encoders))
    work.model.encoders[name].adapter = nn.Sequential(Remembers(), work.model.encoders[name].adapter).double()
    require_recorded(work.model)
    private = PrivateGradients(work.model, Clipping(1.0, 1.0, 1.0), SECRET, "q")
    index = some_patients(patients)
    work.model.train()
    with private.recording(), pytest.raises(UserError, match=rf"changes encoders\.{name}\.adapter\.0\.seen"):
        private.compute(work.objective, given(work, index, [1.0] * len(index)))


class Leaky(nn.Module):
    """An encoder whose layers mix the patients of a batch: patient by patient there is nobody to mix with."""

    private = False

    def __init__(self, whole):
        super().__init__()
        self.whole = whole

    def forward(self, inputs):
        tokens = self.whole(inputs)
        assert current_tape() is None
        return tokens - tokens.mean(dim=0, keepdim=True) / 2


def test_an_encoder_that_couples_a_batch_cannot_couple_patients():
    work, patients, _ = work_of(*KINDS["codes"])
    name = next(iter(work.model.encoders))
    work.model.encoders[name] = Leaky(work.model.encoders[name])
    check(work, some_patients(patients))


def test_scales_of_series_can_be_declared_and_are_refused_if_not():
    changes = {"synthetic.kinds": "series, table, table, table"}
    config = Config.from_flat({**changes, "evaluation.calibration": "none", "privacy.mode": "site"})
    patients = generate(config.synthetic, 0)
    model = SiteModel(patients.schema, config, patients.schema.names)
    with pytest.raises(UserError, match=r"\(series\) is standardised by .* declare standardise = \"given\""):
        admit(model, patients.schema, config)
