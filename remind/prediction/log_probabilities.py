"""What a loaded model predicts of one hospital's patients. Letters: N patients, C classes, V numbers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from remind.data.batches.batch import SiteData
from remind.data.cohort.cohort import Cohort
from remind.outcomes.classes import ByClass
from remind.prediction.masks import MaskFolder
from remind.prediction.model import LoadedModel
from remind.training.outputs import outputs
from remind.training.site_data import FreshTokens


def log_probabilities(
    loaded: LoadedModel,
    cohort: Cohort,
    device: torch.device,
    cpu_threads: int,
    masks: MaskFolder | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
    """Return ln p, (N, C), the share of open gates, (N,), NaN for a model without gates, and numbers (N, V).

    An outcome with classes has no such numbers (None), and any other one no classes: C is 0.

    Patients of combinations that only other hospitals trained are computed last. The batches of the others are then
    the same as in the final examination.

    Parameters
    ----------
    cohort
        Patients of one hospital; each has a modality.
    cpu_threads
        ``threads`` of the run's config; 0: one per core.
    masks
        Where predicted masks are written; None: nowhere.
    """
    source = FreshTokens(loaded.model, SiteData(cohort, loaded.dtype, device))
    log_p_NC = np.full((len(cohort), len(cohort.schema.classes)), np.nan)
    open_N = np.full(len(cohort), np.nan)
    outcome = cohort.schema.predicts
    values_NV = None if outcome.by_class else np.full((len(cohort), len(outcome.values)), np.nan)
    reached_N = np.isin(cohort.groups_N, [int(k) for k in loaded.elsewhere])
    with threads(cpu_threads):
        for rows, reach in ((~reached_N, False), (reached_N, True)):
            index_N = np.flatnonzero(rows)
            with loaded.with_all_routers() if reach else nullcontext():
                for batch, output in outputs(loaded.model, source, index_N, loaded.routing):
                    index_B = batch.index_B.cpu().numpy()
                    raw_BW = output.logits_BC.double()
                    if isinstance(outcome, ByClass):
                        log_p_NC[index_B] = outcome.log_p(raw_BW).cpu().numpy()
                    elif values_NV is not None:
                        values_NV[index_B] = outcome.predict(raw_BW.cpu().numpy())
                    for i, raw_W in zip(index_B.tolist(), raw_BW.cpu().numpy(), strict=True) if masks else ():
                        masks.write(str(cohort.patient_id_N[i]), raw_W)  # type: ignore[union-attr]
                    if output.open_B is not None:
                        open_N[index_B] = output.open_B.double().cpu().numpy()
    return log_p_NC, open_N, values_NV


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch use as many CPU threads as the run did. Another number changes the order, and so the rounding."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
