"""Sites whose encoders train with noise."""

import torch

from remind.data.batches.batch import SiteData
from remind.data.synthetic.generate import generate
from remind.methods import methods_of
from remind.training.local import build_optimizer
from remind.training.site_data import FreshTokens
from remind.training.site_model import SiteModel
from remind.training.work import LocalWork, RoundSettings
from tests.builders.configs import settings

KINDS = {
    "table of features": ("table, table", {"model.encoders.table": "features"}),
    "series": ("series, table", {}),
    "set of series": ("series, table", {"model.encoders.series": "set"}),
    "codes": ("codes, table", {}),
    "words": ("text, table", {"model.encoders.text": "words"}),
    "image": ("image, table", {"model.encoders.image": "test_vit", "model.encoders.image-weights": "random"}),
}


def work_of(kinds, changes):
    """The work of a site whose encoders train, in float64."""
    config = settings(
        {
            "method.objective": "erm",
            "model.hide": 0.0,
            "model.dropout": 0.0,
            "synthetic.patients": 24,
            "synthetic.law": "independent",
            "synthetic.missing": "0.4, 0.2",
            "synthetic.kinds": kinds,
            "synthetic.standardise": "given",
            "evaluation.calibration": "none",
            "privacy.mode": "site",
            **changes,
        }
    )
    patients = generate(config.synthetic, 0)
    model = SiteModel(patients.schema, config, patients.schema.names).double()
    model.fusion.add_groups((1, 2, 3), 0)
    torch.manual_seed(0)
    source = FreshTokens(model, SiteData(patients, torch.float64))
    optimizer = build_optimizer(config.train, model, True)
    work = LocalWork(model, methods_of(config).objective, source, RoundSettings(lr=0.1, routing=True), (), optimizer)
    return work, patients, config
