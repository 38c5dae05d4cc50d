"""Converts answers to blocks for secure aggregation and back, at both ends (docs/secure-aggregation.md).

A block holds a_s·(θ_s − θ) of its tensors, the weight a_s, and the statistics of its group. The coordinator learns the
sums over sites and divides the sum of tensors by the sum of weights.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from math import fsum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remind.config.federation import WireType
from remind.federation.blocks import DTYPES, SHARED, Entry, block_of
from remind.federation.messages import Examine, Task
from remind.metrics.statistics import GroupLoss, GroupStatistics
from remind.metrics.tempering import TemperedSums
from remind.metrics.vectors import TEMPERED, of_statistics, of_tempered, statistics_length, to_statistics, to_tempered
from remind.secagg.codec import Payload
from remind.secagg.derivation import digest
from remind.secagg.limits import RefusedError
from remind.secagg.plan import Part, Plan

Buffer = NDArray[np.uint8]
Floats = NDArray[np.float64]
TOLERANCE = 1e-6  # of numbers that sites and coordinator compute independently
WEIGHT, OF_GROUP = 1, 3  # number of statistics of a block: a_s; for a group's block also its patients and their loss
SENDER = 1  # an examination begins with a 1 of each site, so that a sum says how many sites are in it
COMMON = {"round", "stage", "stage_round", "stage_rounds", "seed", "candidates", "routed"}
EXAMINED = {"round", "routing", "on_test", "temper", "temperature"}


def group_of_block(block: str) -> int | None:
    """Return the group of a group's block; None for other blocks."""
    kind, _, group = block.partition(":")
    return int(group) if kind == "group" else None


def block_digests(index: Iterable[Entry], buffer: Buffer) -> dict[str, str]:
    """Return block → SHA-256 (hex) of the names, shapes, types and values of its tensors."""
    found: dict[str, Any] = {}
    start = 0
    for entry in index:
        sha = found.setdefault(entry.block, hashlib.sha256())
        sha.update(entry.model_dump_json().encode())
        sha.update(np.ascontiguousarray(buffer[start : start + entry.nbytes]).data)
        start += entry.nbytes
    return {block: sha.hexdigest() for block, sha in found.items()}


def task_plan(task: Task, digests: Mapping[str, str], question: str) -> Plan:
    """Return the plan of a round. `digests`: of the blocks as received; `question`: the digest of the whole task."""
    assert task.secure is not None
    parts = {}
    for block, observers in task.secure.observers.items():
        k = group_of_block(block)
        of_group = [] if k is None else [task.secure.patient.get(k), list(task.labels.get(k, ())), k in task.given]
        terms = json.dumps([task.secure.whole.get(block), *of_group])
        parts[block] = Part(observers, digest("block", block, digests.get(block, ""), terms))
    common = json.dumps(task.model_dump(mode="json", include=COMMON), sort_keys=True)
    return Plan(task.secure.slot, digest("round", common, repr(task.secure.plain)), question, parts)


def examination_plan(task: Examine, digests: Mapping[str, str], question: str) -> Plan:
    """Return the plan of an examination; parameters as for `task_plan`."""
    assert task.secure is not None
    terms = {k: task.counts.get(k) for block in task.secure.observers if (k := group_of_block(block)) is not None}
    parts = {
        block: Part(
            observers, digest("block", block, digests.get(block, ""), json.dumps(terms.get(group_of_block(block) or 0)))
        )
        for block, observers in task.secure.observers.items()
    }
    common = json.dumps(task.model_dump(mode="json", include=EXAMINED), sort_keys=True)
    others = [
        f"{b} {d}" for b, d in sorted(digests.items()) if group_of_block(b) is None and not b.startswith("encoder:")
    ]
    return Plan(task.secure.slot, digest("examination", common, task.secure.experts, *others), question, parts)


def masses_of(task: Task, own: Mapping[int, int]) -> dict[int, float]:
    """Return m_{s,k}: the site's part of the objective in each group, from the weights that it received."""
    return {k: weight * own.get(k, 0) / task.counts[k] for k, weight in task.weights.items()}


def groups_training(block: str, groups: Iterable[int], modalities: Sequence[str]) -> list[int]:
    """Return those of the groups whose patients train a block."""
    kind, _, name = block.partition(":")
    if block == SHARED:
        return list(groups)
    if kind == "group":
        return [k for k in groups if k == int(name)]
    bit = modalities.index(name) if name in modalities else -1
    return [k for k in groups if bit >= 0 and k >> bit & 1]


def require_fair(task: Task, own: Mapping[int, int], modalities: Sequence[str]) -> None:
    """Refuse weights that contradict those of the other sites, with which a coordinator could single out one update.

    Raises
    ------
    RefusedError
        The text names the block.
    """
    assert task.secure is not None
    masses = masses_of(task, own)
    for k, patient in task.secure.patient.items():
        if abs(task.weights.get(k, 0.0) / task.counts.get(k, 1) - patient) > TOLERANCE * max(patient, 1e-300):
            raise RefusedError(f"group:{k}: the weight of a patient differs from that at the other sites")
    for block in task.secure.observers:
        group = group_of_block(block)
        if group is not None and group not in task.secure.patient:
            raise RefusedError(f"{block}: the weight of a patient is missing")
        mass = fsum(masses[g] for g in groups_training(block, masses, modalities))
        if abs(task.block_weights.get(block, 0.0) * task.secure.whole.get(block, 0.0) - mass) > TOLERANCE:
            raise RefusedError(f"{block}: the weight of this site differs from its part of the objective")


def training_lengths(index: Iterable[Entry], blocks: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return block → number of values of its tensors, and number of its statistics."""
    sizes: dict[str, int] = {}
    for entry in index:
        sizes[entry.block] = sizes.get(entry.block, 0) + int(np.prod(entry.shape))
    return {b: (sizes.get(b, 0), WEIGHT if group_of_block(b) is None else OF_GROUP) for b in blocks}


def training_payloads(
    task: Task, sent: Mapping[str, Tensor], answer: Mapping[str, Tensor], losses: Mapping[int, GroupLoss]
) -> dict[str, Payload]:
    """Encode the blocks of a site's answer, before masking. Raises the errors of `Codec.encode`."""
    assert task.secure is not None
    found = {}
    for block, observers in task.secure.observers.items():
        weight, k = task.block_weights.get(block, 0.0), group_of_block(block)
        moved = [_flat(answer[n]) - _flat(sent[n]) for n in sorted(sent) if block_of(n) == block]
        beside = [weight]
        if k is not None:
            loss = losses.get(k)
            beside += [0.0, 0.0] if loss is None else [loss.count, loss.loss_sum]
        tensors_N = weight * np.concatenate(moved) if moved else np.zeros(0)
        found[block] = Payload.of(tensors_N, np.array(beside), len(observers))
    return found


def average_of(block: str, total: Payload, model: Mapping[str, Tensor], dtype: WireType) -> dict[str, Tensor]:
    """Return θ + Σ_s a_s·(θ_s − θ) / Σ_s a_s for the tensors of a block, θ as it was sent; empty if Σ_s a_s is 0."""
    moved_N, beside = total.numbers()
    found, start = {}, 0
    for name in sorted(n for n in model if block_of(n) == block):
        tensor = model[name]
        part = moved_N[start : start + tensor.numel()]
        start += tensor.numel()
        if beside[0] > 0:
            update = torch.from_numpy(part / beside[0]).view(tensor.shape)
            found[name] = (tensor.to(DTYPES[dtype]).double() + update).to(tensor.dtype)
    return found


def loss_of(total: Payload) -> GroupLoss | None:
    """Return the loss of a group over all sites; None if it is about no patient."""
    _, (_, count, loss_sum) = total.numbers()
    return GroupLoss(round(count), max(float(loss_sum), 0.0)) if round(count) > 0 else None


def examined_parts(task: Examine) -> tuple[str, ...]:
    """Return which statistics of each group an examination sums, in order."""
    calibrated = task.on_test and task.temperature != 1
    asked = {"test": task.on_test, "validation": True, "calibrated": calibrated, "tempered": task.temper}
    return tuple(name for name, wanted in asked.items() if wanted)


def examination_length(task: Examine, classes: int) -> int:
    """Return how many numbers an examination has for each group."""
    assert task.secure is not None
    one = statistics_length(classes, task.secure.experts)
    return SENDER + sum(TEMPERED if part == "tempered" else one for part in examined_parts(task))


def examination_payload(
    task: Examine,
    block: str,
    statistics: Mapping[str, GroupStatistics | None],
    tempered: TemperedSums | None,
    classes: int,
) -> Payload:
    """Encode a group's statistics as a block, before masking. `statistics`: part of the split → statistics or None."""
    assert task.secure is not None
    experts = task.secure.experts
    vectors = [
        of_tempered(tempered) if part == "tempered" else of_statistics(statistics.get(part), classes, experts)
        for part in examined_parts(task)
    ]
    return Payload.of(np.zeros(0), np.concatenate([np.ones(SENDER), *vectors]), len(task.secure.observers[block]))


def examiners_in(total: Payload) -> float:
    """Return how many sites an examination sums; any number if some of them were told something else."""
    return float(total.numbers()[1][0])


def examined(
    task: Examine, total: Payload, classes: int
) -> tuple[dict[str, GroupStatistics | None], TemperedSums | None]:
    """Decode the sum of `examination_payload` over sites."""
    assert task.secure is not None
    (_, vector_N), start = total.numbers(), SENDER
    found: dict[str, GroupStatistics | None] = {}
    tempered = None
    for part in examined_parts(task):
        length = TEMPERED if part == "tempered" else statistics_length(classes, task.secure.experts)
        piece_N = vector_N[start : start + length]
        start += length
        if part == "tempered":
            tempered = to_tempered(piece_N)
        else:
            found[part] = to_statistics(piece_N, classes, task.secure.experts)
    return found, tempered


def _flat(tensor: Tensor) -> Floats:
    flat: Floats = tensor.detach().double().flatten().numpy()
    return flat
