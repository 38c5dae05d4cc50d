"""Whether noise leaves anything to learn with a run's settings: known before anything is spent.

An adaptive optimiser divides a step by its size, which under privacy is nearly that of the noise. So a step moves a
parameter by about the learning rate, of which the part in the direction of the gradient is at most the ratio of signal
and noise:

    reach = Σ_steps lr · min(1, q·n / (σ·√d))

q·n patients of a step, whose clipped gradients agree at best; noise multiplier σ; d trained numbers.
"""

import math
from collections.abc import Sequence

from remind.config import Config
from remind.data.cohort.schema import CohortSchema
from remind.encoders.backbone import weightless
from remind.methods import methods_of
from remind.privacy_plan import Schedule
from remind.secagg.limits import FEWEST, least_honest
from remind.training.schedule import learning_rate
from remind.training.site_model import fusion_of

LEAST = 0.05  # set by hand, between runs on the heart cohort that learned and runs that did not (docs/privacy.md)
FASTEST = 0.05  # learning rate above which none is proposed; set by hand


def reach(config: Config, numbers: int, patients: Sequence[int]) -> float:
    """Return how far the steps of a run move a parameter in the direction of the gradient, at best.

    Parameters
    ----------
    numbers
        d, of all parameters that train.
    patients
        Training patients of each hospital.

    Raises
    ------
    UserError
        No noise is enough for the wanted ε.
    """
    train, total = config.train, max(sum(patients), 1)
    if config.privacy.mode == "joint":
        hospitals = max(len(patients), FEWEST)
        makers = max(least_honest(hospitals, hospitals, config.privacy.colluding), 1)
        schedule = Schedule(config)
        noise = schedule.noise * math.sqrt(hospitals / makers)
        ratio = _ratio(schedule.rate * total, noise, numbers)
    else:
        ratio = 0.0
        for n in patients:
            schedule = Schedule(config, n)
            ratio += n / total * _ratio(schedule.rate * n, schedule.noise, numbers)
    lengths = (train.warmup_rounds, train.routing_rounds)
    rates = (
        learning_rate(train, stage, r, length) for stage, length in enumerate(lengths, start=1) for r in range(length)
    )
    return train.local_steps * sum(rates) * ratio


def warnings(config: Config, schema: CohortSchema, patients: Sequence[int]) -> list[str]:
    """Return a text, with the settings to change, for a run that noise leaves little to learn; at most one."""
    if config.privacy.mode == "none" or config.train.optimizer == "sgd" or not patients:
        return []
    found = reach(config, numbers_of(config, schema), patients)
    if found >= LEAST:
        return []
    train, faster = config.train, 2 * LEAST / max(found, 1e-12)
    settings = ["more patients per step (train.batch)", "more rounds", "a smaller model (model.width, model.experts)"]
    if faster * train.lr <= FASTEST:
        settings.insert(0, f"train.lr and train.routing-lr of {faster:.2g} times as much")
    preset = "private" if config.privacy.mode == "site" else f"private-{config.privacy.mode}"
    return [
        f"privacy.mode = {config.privacy.mode!r}: with these settings noise leaves almost nothing to learn (reach "
        f"{found:.1g}, wanted: {LEAST:g}; docs/privacy.md), and epsilon would be spent on it. Try "
        f"{', '.join(settings)}, or the settings of the preset {preset}; at last a larger privacy.epsilon"
    ]


def numbers_of(config: Config, schema: CohortSchema) -> int:
    """Return how many numbers of the fusion model train at least: without those of groups and encoders."""
    moves = methods_of(config).rule.moving()
    with weightless():
        named = fusion_of(schema, config).named_parameters(prefix="fusion")
        return sum(p.numel() for name, p in named if p.requires_grad and (moves is None or moves(name)))


def _ratio(signal: float, noise: float, numbers: int) -> float:
    return min(1.0, signal / max(noise * math.sqrt(max(numbers, 1)), 1e-12))
