"""Shared encoders in rounds that do not train them: they do not come back, and a site that has them gets them no more.

A site that answered the round before has stored what it received. Its task names the blocks that are left out, each
with a digest: a site whose state was lost since then refuses, and gets everything in the next round.
"""

import hashlib
from collections.abc import Mapping

from torch import Tensor

from remind.config import Config
from remind.config.federation import WireType
from remind.federation.blocks import ENCODERS, block_of, pack
from remind.federation.rules.base import Rule

HOLDS = "holds/"  # begins the names, in the coordinator's memory, of sites that have the encoders


def encoders_rest(config: Config, rule: Rule, stage: int, trains: bool) -> bool:
    """Return whether a round leaves shared encoders as they are, at all sites the same.

    Parameters
    ----------
    trains
        Whether the objective's phase trains.
    """
    shared = config.federation.encoders == "shared" and not config.federation.secure_aggregation
    return shared and not (stage == 1 and trains) and type(rule).for_site is Rule.for_site


def encoders_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those of the tensors that are encoders'."""
    return {name: tensor for name, tensor in tensors.items() if name.startswith(ENCODERS)}


def digests(tensors: Mapping[str, Tensor], dtype: WireType) -> dict[str, str]:
    """Return block → SHA-256 (hex) of the names and bytes of its tensors, as they are sent."""
    blocks: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        blocks.setdefault(block_of(name), {})[name] = tensor
    found = {}
    for block, own in blocks.items():
        names = "\0".join(f"{name}{tuple(tensor.shape)}" for name, tensor in sorted(own.items()))
        found[block] = hashlib.sha256(names.encode() + b"\0" + pack(own, dtype).tobytes()).hexdigest()
    return found
