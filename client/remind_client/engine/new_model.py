"""Build the model of a site before its first round."""

import numpy as np

from remind.config import Config
from remind.data.batches.batch import SiteData
from remind.data.batches.lazy import Request
from remind.data.cohort.cohort import Cohort
from remind.encoders.alone.encoder import ALONE, AloneEncoder
from remind.seeds import derive
from remind.training.site_model import SiteModel
from remind_client.engine.patients import SitePatients
from remind_client.store.site_store import SiteStore
from remind_client.vault.errors import VaultError


def new_model(patients: SitePatients, config: Config, store: SiteStore) -> SiteModel:
    """Build the encoders of the site's modalities, fitted on training patients, and the fusion model."""
    cohort = patients.cohort
    has = [name for name, contents in cohort.modalities.items() if contents.present().any()]
    if patients.private is not None:  # the absence of a modality would disclose something about the patients
        has = list(cohort.modalities)
    model = SiteModel(cohort.schema, config, has)
    training = patients.training()
    for name in has:
        model.encoders[name].fit(training.modalities[name])  # type: ignore[operator]
    if ALONE in model.encoders and not _stores(store, ALONE):  # a stored one is loaded before each message
        _fit_own_models(model, training, derive(config.seed, "alone", patients.site))
    return model


def _stores(store: SiteStore, encoder: str) -> bool:
    try:
        return encoder in store.digests()
    except VaultError:  # a repeated round replaces a damaged state; any other message names the file
        return False


def _fit_own_models(model: SiteModel, training: Cohort, seed: int) -> None:
    """Fit the site's own models, whose scores are added to those of the common model."""
    encoder = model.encoders[ALONE]
    assert isinstance(encoder, AloneEncoder)
    (batch,) = SiteData(training).batches([Request(np.arange(len(training)), only=encoder.reads)])
    encoder.learn(batch, training.label_N, seed)
