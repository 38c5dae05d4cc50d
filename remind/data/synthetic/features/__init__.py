"""Features of synthetic patients, one file per kind of modality. All features are linear in the patient's latents.

Letters: N patients, K latents.
"""

LATENTS = 3  # K
FEATURE_NOISE = 0.1  # standard deviation, relative to that of the noiseless feature
