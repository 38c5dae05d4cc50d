"""Settings of runs that take a second: parts to combine, and the config that most tests use."""

from collections.abc import Mapping

from remind.config import Config, Scalar

SIZE: dict[str, Scalar] = {"model.width": 8, "model.experts": 4, "model.heads": 2, "model.tokens": 4}
ROUNDS: dict[str, Scalar] = {
    "train.warmup-rounds": 1,
    "train.routing-rounds": 1,
    "train.local-steps": 2,
    "train.batch": 8,
}
BASE: dict[str, Scalar] = {
    **SIZE,
    **ROUNDS,
    "model.expansion": 2,
    "model.dropout": 0.0,
    "model.hide": 0.0,
    "model.gate": "always",
    "dro.gamma": 0.5,
    "dro.initial": "uniform",
    "train.residual-rate": 1.0,
    "federation.deadline": 10.0,  # what hangs shall not hang long
}


def settings(changes: Mapping[str, Scalar] | None = None) -> Config:
    """A config of a model of a few hundred parameters."""
    return Config.from_flat(BASE | dict(changes or {}))
