"""The one gradient of a round in which hospitals share the noise: each patient's clipped, summed, without noise yet.

The caller adds the noise before anything leaves (`remind.privacy.joint`).
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from remind.privacy.noise import Floats
from remind.seeds import derive
from remind.training.private.gradients import PrivateGradients
from remind.training.sampling import Step
from remind.training.work import LocalWork

PIECE = 64  # patients at a time, where train.batch does not say


def clipped_sum(work: LocalWork, private: PrivateGradients, patients: int) -> Mapping[str, Tensor]:
    """Return Σ_i min(1, C/‖g_i‖)·g_i over the patients of the round's step, by name, in float64; none of nobody.

    Parameters
    ----------
    work
        With a plan of one step.
    private
        Clips; its noise is not used.
    patients
        How many of them are computed at a time; 0: `PIECE`. Their clipped gradients add up whatever the number.

    Raises
    ------
    UserError
        A parameter would train that the tape does not know of.
    """
    found: dict[str, Tensor] = {}
    (step,) = work.plan
    if not len(step.index_B):
        return found
    work.model.train()
    size = patients or PIECE
    starts = range(0, len(step.index_B), size)
    pieces = [Step(step.index_B[i : i + size], step.weight_B[i : i + size]) for i in starts]
    batches = iter(work.source.batches([piece.index_B for piece in pieces], work.settings.augment))
    for number, piece in enumerate(pieces):
        with private.recording(noisy=False):
            batch, tokens_BMD = next(batches)
            given = work.step_input(piece, batch, tokens_BMD, derive(work.settings.seed, "step", number))
            work.model.fusion.set_step_patients(batch.index_B)
            sums = private.clipped_sum(work.objective, given).sums
        for name, total in sums.items():
            found[name] = found.get(name, torch.zeros(total.shape, dtype=torch.float64)) + total.detach().double().cpu()
    work.model.fusion.set_step_patients(None)
    return found


def flat(sums: Mapping[str, Tensor], name: str, numbers: int) -> Floats:
    """Return the numbers of one parameter, (numbers,); zeros where no patient reached it."""
    if name not in sums:
        return np.zeros(numbers)
    found: Floats = sums[name].reshape(-1).numpy()
    return found
