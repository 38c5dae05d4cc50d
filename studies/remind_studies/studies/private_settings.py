"""Settings that study `privacy` tries besides those of the request: learning rate, rounds, rate, r_max, D and E."""

from collections.abc import Iterator, Sequence
from math import ceil

from remind.config import Config, Scalar
from remind.privacy_reach import FASTEST
from remind_studies.study import Settings

SMALL: Settings = {"model.width": 16, "model.experts": 4}
WEIGHTED: Settings = {"dro.initial": "uniform"}  # λ with which rare groups weigh more than others
DRAWN, FASTER = 4, 10  # factors of patients in a step, and of learning rates


def changes(config: Config, caps: Sequence[float]) -> Iterator[tuple[str, Settings]]:
    """Yield what is tried with a mode besides its configured settings, each with its name.

    A learning rate ten times as high comes with every other change, unless it would be above `FASTEST`: at a low rate
    nothing is learned, whatever else is changed.

    Parameters
    ----------
    config
        Of the mode.
    caps
        Of a patient's weight; the largest is tried, with uniform λ. Without it r_max changes nothing.
    """
    faster, more, fewer = _faster(config), _drawn(config, DRAWN), _drawn(config, 1 / DRAWN)
    if faster:
        yield "lr × 10", faster
    if more:
        yield _named(f"rate × {DRAWN}", faster), {**more, **faster}
    elif fewer:
        yield _named(f"rate ÷ {DRAWN}", faster), {**fewer, **faster}
    also = f", rate × {DRAWN}" if more else ""
    if half := _rounds(config, 0.5):
        yield _named(f"half the rounds{also}", faster), {**half, **more, **faster}
    yield _named("twice the rounds", faster), {**_rounds(config, 2), **faster}
    if not SMALL.items() <= config.flat().items():
        yield _named(f"D = 16 and E = 4{also}", faster), {**SMALL, **more, **faster}
    if caps:
        weighted: Settings = {**WEIGHTED, "privacy.r-max": max(caps)}
        yield _named(f"{named_weights('', max(caps))}{also}", faster), {**weighted, **more, **faster}


def named_weights(mode: str, cap: float) -> str:
    """Return the name of a mode's runs with uniform λ and this cap."""
    return f"{mode}, uniform λ and r_max = {cap:g}".removeprefix(", ")


def _named(change: str, faster: Settings) -> str:
    return f"{change}, lr × {FASTER}" if faster else change


def _faster(config: Config) -> Settings:
    train = config.train
    if FASTER * max(train.lr, train.routing_lr) > FASTEST:
        return {}
    return {
        "train.lr": FASTER * train.lr,
        "train.routing-lr": FASTER * train.routing_lr,
        "federation.max-update": FASTER * config.federation.max_update,  # steps are as much longer
    }


def _drawn(config: Config, factor: float) -> Settings:
    """Return settings with so many times the patients in a step; empty if there are not so many."""
    rate = config.privacy.rate or (1.0 if config.privacy.mode == "joint" or not config.train.batch else 0.0)
    if not rate:
        return {"train.batch": max(1, round(factor * config.train.batch))}
    return {"privacy.rate": factor * rate} if factor * rate <= 1 else {}


def _rounds(config: Config, factor: float) -> dict[str, Scalar]:
    """Return settings with so many times the rounds of each stage; empty if these are as many as before."""
    rounds = {"train.warmup-rounds": config.train.warmup_rounds, "train.routing-rounds": config.train.routing_rounds}
    changed: dict[str, Scalar] = {name: ceil(factor * n) for name, n in rounds.items()}
    return {} if changed == rounds else changed
