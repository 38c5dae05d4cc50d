"""Pictures and volumes as a few statistics of their intensities: no yardstick of what an image model can see.

Letters: N patients, P who have the picture.
"""

import numpy as np

from remind.data.batches.lazy import LazyModalities, Loader, Request
from remind.data.cohort.cohort import Cohort
from remind.data.features.columns import Floats

STATISTICS = ("mean", "std", "1 %", "25 %", "50 %", "75 %", "99 %", "mean step")
CHUNK = 32  # pictures in memory at a time


def intensities(cohort: Cohort, name: str) -> Floats:
    """Compute statistics of each picture's pixels in [0, 1] over all channels, (N, 8); NaN for who has none.

    `mean step` is the mean absolute difference of neighbours in the last dimension: how rough the picture is.

    Raises
    ------
    UserError
        A file can no longer be read.
    """
    having = np.flatnonzero(cohort.modalities[name].present())
    values_NF = np.full((len(cohort), len(STATISTICS)), np.nan)
    chunks = [having[start : start + CHUNK] for start in range(0, len(having), CHUNK)]
    load = Loader(LazyModalities(cohort), workers=0, pin=False)
    for chosen, loaded in zip(chunks, load([Request(chunk, only=(name,)) for chunk in chunks]), strict=True):
        pixels = np.asarray(loaded[name], dtype=np.float64)
        flat = pixels.reshape(len(chosen), -1)
        step = np.abs(np.diff(pixels, axis=-1)).reshape(len(chosen), -1).mean(axis=1)
        quantiles = np.quantile(flat, [0.01, 0.25, 0.5, 0.75, 0.99], axis=1)
        values_NF[chosen] = np.stack([flat.mean(axis=1), flat.std(axis=1), *quantiles, step], axis=1)
    return values_NF
