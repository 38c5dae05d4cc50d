"""Contract tests of every registered encoder; a new encoder is included automatically."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from remind.config import Config, Scalar
from remind.data.batches.batch import SiteData
from remind.data.cohort.cohort import Cohort
from remind.data.cohort.kinds.series import SeriesBatch
from remind.data.cohort.kinds.text import TextBatch
from remind.data.synthetic.generate import generate
from remind.encoders import build_encoder, encoders, needs_fit, token_count
from remind.training.site_model import SiteModel
from tests.builders.configs import BASE
from tests.builders.encoders import without_gradient

NAME = "M1"  # the modality; M2 is a table
SMALL: dict[str, Scalar] = BASE | {
    "synthetic.patients": 16,
    "synthetic.law": "independent",
    "synthetic.missing": "0.3, 0.2",
    "synthetic.size": 16,
    "model.encoders.image": "test_resnet",
    "model.encoders.image-weights": "random",
    "model.encoders.volume": "resnet10",
    "model.encoders.volume-weights": "random",
}
KEYS: dict[str, tuple[str, dict[str, Scalar]]] = {  # what keys of our own encoders change, beyond their defaults
    "table of features": ("table", {"model.encoders.table": "features"}),
    "quantiles": ("table", {"model.encoders.numbers": "quantile", "model.encoders.periodic": 2}),
    "features of quantiles": ("table", {"model.encoders.table": "features", "model.encoders.numbers": "quantile"}),
    "set of series": ("series", {"model.encoders.series": "set"}),
    "vit": ("image", {"model.encoders.image": "test_vit"}),
}


def chosen(kind: str, method: str) -> tuple[str, dict[str, Scalar]]:
    return kind, {"model.encoders.choice": f"{kind}: {method}"}


EVERY = {f"{kind}: {m.name}": chosen(kind, m.name) for kind, (_, own) in encoders().items() for m in own.methods()}
every_encoder = pytest.mark.parametrize("of", [*EVERY.values(), *KEYS.values()], ids=[*EVERY, *KEYS])


def config_of(of) -> Config:
    kind, changes = of
    return Config.from_flat(SMALL | {"synthetic.kinds": f"{kind}, table"} | changes)


@cache
def cohort(kind: str) -> Cohort:
    return generate(config_of((kind, {})).synthetic, 0)


def having(kind: str):
    return np.flatnonzero(cohort(kind).presence_Nm[:, 0])


def made(of, dtype=torch.float32, fitted=True) -> Any:
    """The encoder with random weights everywhere, as those that start at 0 hide what stands before them."""
    config, patients = config_of(of), cohort(of[0])
    encoder = build_encoder(patients.schema.modalities[0], config.model, 1)
    if fitted:
        encoder.fit(patients.take(having(of[0])).modalities[NAME])
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return encoder.to(dtype).eval()


def inputs(of, index, dtype=torch.float32) -> Any:
    return SiteData(cohort(of[0]), dtype).batch(np.asarray(index)).inputs[NAME]


def with_an_empty_patient(given: Any) -> Any:
    """An empty note, or a patient without observations: some weights are for these alone."""
    if isinstance(given, TextBatch):
        return TextBatch(("", *given.texts[1:]))
    return given.taken(given.patient_O > 0) if isinstance(given, SeriesBatch) else given


@every_encoder
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tokens_have_the_announced_number_the_width_and_the_type(of, dtype):
    config, schema = config_of(of), cohort(of[0]).schema.modalities[0]
    count = token_count(schema, config.model)
    assert 1 <= count <= config.model.tokens
    tokens = made(of, dtype)(inputs(of, having(of[0]), dtype))
    assert tokens.shape == (len(having(of[0])), count, config.model.width)
    assert tokens.dtype == dtype
    assert tokens.isfinite().all()


@every_encoder
def test_the_seed_alone_decides_the_initial_weights(of):
    schema, model = cohort(of[0]).schema.modalities[0], config_of(of).model
    torch.manual_seed(3)
    first = build_encoder(schema, model, 1).state_dict()
    after = torch.rand(1)
    torch.manual_seed(3)
    assert after == torch.rand(1), "building an encoder draws from no generator but its own"
    second, other = (build_encoder(schema, model, seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


@every_encoder
def test_tokens_are_those_of_last_time_and_after_loading(of):
    encoder, given = made(of), inputs(of, having(of[0]))
    tokens = encoder(given)
    assert torch.equal(tokens, encoder(given))
    loaded = made(of, fitted=False)
    loaded.load_state_dict(encoder.state_dict())
    assert torch.equal(tokens, loaded(given)), "what `fit` learns is a buffer"


@every_encoder
def test_patients_do_not_see_each_other_and_their_order_does_not_matter(of):
    encoder, index = made(of, torch.float64), having(of[0])[:5]
    together = encoder(inputs(of, index, torch.float64))
    order = [3, 0, 4, 1, 2]
    close: Any = {"rtol": 0, "atol": 1e-9}
    torch.testing.assert_close(encoder(inputs(of, index[order], torch.float64)), together[order], **close)
    for row, patient in enumerate(index):
        torch.testing.assert_close(encoder(inputs(of, [patient], torch.float64))[0], together[row], **close)
    assert not torch.equal(together[0], together[1]), "the tokens say something of the patient"


@every_encoder
def test_who_lacks_the_modality_has_tokens_of_zero_and_moves_no_weight(of):
    patients, config = cohort(of[0]), config_of(of)
    model = SiteModel(patients.schema, config, patients.schema.names).eval()
    model.encoders[NAME] = made(of)
    data, lacking = SiteData(patients), np.flatnonzero(~patients.presence_Nm[:, 0])
    count = model.counts[NAME]
    tokens = model.tokens(data.batch(np.arange(len(patients))))[:, :count]
    assert not tokens[lacking].any()
    assert tokens[having(of[0])].abs().amax(dim=(1, 2)).min() > 0
    nobody = model.tokens(data.batch(lacking))
    assert nobody.shape[0] == len(lacking) > 0
    nobody.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.encoders[NAME].parameters())


@every_encoder
def test_gradients_reach_every_weight_that_trains(of):
    encoder = made(of)
    fixed = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    given = with_an_empty_patient(inputs(of, having(of[0])))
    assert set(without_gradient(encoder, given)) == fixed


@every_encoder
def test_fit_learns_from_patients_only_where_the_encoder_says_so(of):
    schema, model = cohort(of[0]).schema.modalities[0], config_of(of).model
    encoder = build_encoder(schema, model, 1)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    weights = {name for name, _ in encoder.named_parameters()}
    encoder.fit(cohort(of[0]).take(having(of[0])).modalities[NAME])
    changed = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not changed & weights
    assert bool(changed) == needs_fit(schema, model)
