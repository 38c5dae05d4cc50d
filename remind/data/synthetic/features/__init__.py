"""Features of synthetic patients, one file per kind of modality: all of them linear in the patient's latents.

Letters: N patients, K latents.
"""

LATENTS = 3  # K
FEATURE_NOISE = 0.1  # standard deviation, in units of the clean feature's
