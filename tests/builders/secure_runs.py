"""Runs under secure aggregation."""

from remind.config import Config
from tests.builders.configs import BASE

MIXES = {"s1": [1, 3, 7] * 6, "s2": [3, 5, 7, 7] * 5, "s3": [1, 3, 3, 7] * 5, "s4": [3, 7, 1] * 6}


SECURE = {"federation.secure-aggregation": True}


def config(rule="fedremind", objective="groupdro", **changes) -> Config:
    method = {"method.rule": rule, "method.objective": objective}
    if rule == "fedavg":
        method["federation.encoders"] = "shared"
    return Config.from_flat(BASE | method | {"dro.initial": "uniform"} | changes)


ONE = {"train.warmup-rounds": 1, "train.routing-rounds": 0}
