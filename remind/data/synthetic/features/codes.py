"""Codes: the log-odds that a patient has a code are linear in the latents.

Letters: N patients, K latents, V codes of the vocabulary.
"""

import numpy as np

from remind.data.cohort.kinds.codes import Codes, CodesSchema
from remind.data.synthetic.features.base import FEATURE_NOISE, LATENTS, Asked, makes

VOCABULARY = tuple(f"{chapter}{number}" for chapter in "ABCDEFGHJK" for number in range(10, 90, 10))
SLOPE = 2.5  # log-odds per unit along the direction of a code
RAREST, COMMONEST = -1.5, 0.0  # log-odds of a code for a patient whose latents are 0


@makes("codes")
def make_codes(asked: Asked) -> tuple[CodesSchema, Codes]:
    """Draw about a third of the vocabulary for each patient, at least one code."""
    name, latents_NK, rng = asked.name, asked.latents_NK, asked.rng
    n = len(latents_NK)
    direction_KV = rng.standard_normal((LATENTS, len(VOCABULARY)))
    direction_KV *= SLOPE / np.linalg.norm(direction_KV, axis=0)
    seen_NK = latents_NK + FEATURE_NOISE * rng.standard_normal((n, LATENTS))
    logit_NV = rng.uniform(RAREST, COMMONEST, len(VOCABULARY)) + seen_NK @ direction_KV
    has_NV = rng.random(logit_NV.shape) < 1 / (1 + np.exp(-logit_NV))
    has_NV[np.arange(n), logit_NV.argmax(axis=1)] |= ~has_NV.any(axis=1)
    offsets_N1 = np.concatenate([[0], np.cumsum(has_NV.sum(axis=1))]).astype(np.int64)
    return CodesSchema(name=name, vocabulary=VOCABULARY), Codes(offsets_N1, np.nonzero(has_NV)[1], VOCABULARY)
