"""Learning rate over the rounds of a stage; it restarts in stage 2 (algorithm §2, §4.9)."""

import math

from remind.config import TrainConfig


def learning_rate(config: TrainConfig, stage: int, stage_round: int, stage_rounds: int) -> float:
    """Return the learning rate of round `stage_round` (from 0) of a stage of `stage_rounds` rounds.

    constant: lr. step: lr·step_factor^⌊round/step_rounds⌋. cosine: decreases from lr towards a twentieth of it.
    """
    base = config.lr if stage == 1 else config.routing_lr
    if config.schedule == "step":
        return base * config.step_factor ** (stage_round // config.step_rounds)
    if config.schedule == "cosine":
        floor = 0.05
        return base * (floor + (1 - floor) * (1 + math.cos(math.pi * stage_round / stage_rounds)) / 2)
    return base
