"""What hospitals send under masks if they share the noise of the sum (``privacy.mode = "joint"``); used by both ends.

A block holds the hospital's sum of clipped gradients of its tensors with its share of the noise, as integers of
clip/2^16, and beside it the hospital's weight a_s. A group's block also holds the patients that the hospital has said
and the sum of their losses with its share of noise; zeros in rounds that release none. The coordinator learns sums over
hospitals, and divides by numbers that everybody knows.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from remind.federation.blocks import block_of
from remind.federation.messages import Task
from remind.federation.secure import group_of_block
from remind.metrics.statistics import GroupLoss
from remind.privacy.joint import in_units
from remind.privacy.noise import STEPS_PER_CLIP, Integers
from remind.secagg.codec import STATISTICS, TENSORS, Payload
from remind.secagg.limits import RefusedError, least_honest

LOSS_ROOM = 1 - 1 / STEPS_PER_CLIP  # what rounding leaves of a patient's largest loss


def noise_makers(task: Task, sites: int, colluding: int) -> dict[str, int]:
    """Return block → the number of hospitals whose noise is in its sum for sure, of a run of so many sites.

    Raises
    ------
    RefusedError
        In the sum of a block there might be none.
    """
    assert task.secure is not None
    found = {block: least_honest(len(names), sites, colluding) for block, names in task.secure.observers.items()}
    if few := sorted(block for block, number in found.items() if number < 1):
        raise RefusedError(f"{few[0]}: with privacy.colluding = {colluding} nobody's noise is in its sum for sure")
    if not found:
        raise RefusedError("the task names no block to be summed")
    return found


def most_steps(sites: int, words: int) -> int:
    """Return how large an integer of one of so many sites may be, for their sum to fit into words of so many bits."""
    return (1 << words - 1) // sites - 1


def summed_payloads(
    task: Task, steps: Mapping[str, Integers], losses: Mapping[int, tuple[int, int]]
) -> dict[str, Payload]:
    """Return the blocks of a hospital's answer, not yet masked.

    Parameters
    ----------
    steps
        Tensor → its sum with noise, of the tensors that train in this round.
    losses
        Group → patients as said, and the sum of their losses with noise, in steps.
    """
    assert task.secure is not None
    found = {}
    for block, observers in task.secure.observers.items():
        own = sorted((e for e in task.index if e.block == block), key=lambda entry: entry.name)
        parts = [
            steps[e.name].reshape(-1) if e.name in steps else np.zeros(int(np.prod(e.shape)), np.int64) for e in own
        ]
        tensors = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        count, loss = losses.get(group_of_block(block) or 0, (0, 0))
        known = [task.block_weights.get(block, 0.0)] + ([] if group_of_block(block) is None else [float(count)])
        beside = STATISTICS.encode(np.array(known), len(observers)).astype(np.uint64)
        if group_of_block(block) is not None:
            beside = np.append(beside, np.array([loss], np.int64).view(np.uint64))
        found[block] = Payload((tensors & (2**TENSORS.bits - 1)).astype(np.uint32), beside)
    return found


def gradients_of(block: str, total: Payload, model: Mapping[str, Tensor], clip: float) -> dict[str, Tensor]:
    """Return the sum of clipped gradients of a block's tensors, with noise; none of those that nobody trained.

    Noise leaves no tensor at zero, and what does not train in a stage is zero at all hospitals.
    """
    steps_N = total.tensors.view(np.int32).astype(np.int64)
    found, start = {}, 0
    for name in sorted(n for n in model if block_of(n) == block):
        part = steps_N[start : start + model[name].numel()]
        start += len(part)
        if part.any():
            found[name] = torch.from_numpy(in_units(part, clip)).view(model[name].shape)
    return found


def noisy_loss_of(total: Payload, most: float) -> GroupLoss | None:
    """Return the losses of a group over all hospitals, of which none is above `most`; None if none were released."""
    count = round(float(STATISTICS.decode(total.statistics[1:2])[0]))
    if count <= 0:
        return None
    loss = float(in_units(total.statistics[2:3].view(np.int64), most)[0]) / LOSS_ROOM
    return GroupLoss(count, float(np.clip(loss, 0.0, count * most)))
