"""Series: irregular observations whose level and trend follow the latents.

Letters: N patients, K latents, I items, O observations.
"""

from math import sqrt

import numpy as np

from remind.data.cohort.kinds.series import Series
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.synthetic.features.base import FEATURE_NOISE, Asked, makes

ITEMS, HORIZON_HOURS = ("heart_rate", "pressure", "temperature"), 48.0
LEVEL_I, SCALE_I = np.array([80.0, 120.0, 37.0]), np.array([12.0, 15.0, 0.7])
FEWEST, MOST = 12, 30  # observations of a patient


@makes("series")
def make_series(asked: Asked) -> tuple[SeriesSchema, Series]:
    """Draw irregular observations. An item's level follows latents 1 and 3, its trend over time follows latent 2."""
    name, latents_NK, rng = asked.name, asked.latents_NK, asked.rng
    n = len(latents_NK)
    count_N = rng.integers(FEWEST, MOST + 1, n)
    patient_O = np.repeat(np.arange(n), count_N)
    time_O = rng.uniform(0, HORIZON_HOURS, len(patient_O)).astype(np.float32)
    item_O = rng.integers(0, len(ITEMS), len(patient_O))
    angle_I = rng.uniform(0, np.pi) + np.pi / len(ITEMS) * np.arange(len(ITEMS))  # no two items have the same mixture
    trend_I = rng.choice([-1.0, 1.0], len(ITEMS)) * rng.uniform(0.7, 1.3, len(ITEMS))
    phase_O = sqrt(3) * (2 * time_O / HORIZON_HOURS - 1)  # mean 0 and variance 1 over the horizon
    u_OK = latents_NK[patient_O]
    clean_O = np.cos(angle_I)[item_O] * u_OK[:, 0] + np.sin(angle_I)[item_O] * u_OK[:, 2]
    clean_O += trend_I[item_O] * u_OK[:, 1] * phase_O + FEATURE_NOISE * rng.standard_normal(len(patient_O))
    value_O = (LEVEL_I[item_O] + SCALE_I[item_O] * clean_O).astype(np.float32)
    order_O = np.lexsort((item_O, time_O, patient_O))
    offsets_N1 = np.concatenate([[0], np.cumsum(count_N)]).astype(np.int64)
    series = Series(offsets_N1, time_O[order_O], item_O[order_O].astype(np.int64), value_O[order_O])
    schema = SeriesSchema(name=name, items=ITEMS, horizon_hours=HORIZON_HOURS)
    if asked.given:
        std_I = SCALE_I * np.sqrt(1 + trend_I**2 + FEATURE_NOISE**2)
        known = {
            "mean": dict(zip(ITEMS, LEVEL_I.tolist(), strict=True)),
            "std": dict(zip(ITEMS, std_I.tolist(), strict=True)),
        }
        schema = schema.model_copy(update={"standardise": "given"} | known)
    return schema, series
