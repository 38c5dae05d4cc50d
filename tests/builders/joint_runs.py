"""Sites of runs in joint mode, in this process."""

import torch

from remind.config import Config, Scalar
from remind_client.engine.private_steps import simulated_secret
from remind_client.ledger.spender import Spender, limits_of
from remind_client.ledger.spends import PrivacyLedger
from remind_client.policy.rules import fingerprint
from remind_client.rounds.secure import SecureAnswers
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.private_sites import given_scale

MIXES = {"s1": [1, 3, 7] * 6, "s2": [3, 5, 7, 7] * 5, "s3": [1, 3, 3, 7] * 5, "s4": [3, 7, 1] * 6}


JOINT: dict[str, Scalar] = {
    "privacy.mode": "joint",
    "privacy.noise": 1.0,
    "privacy.counts-noise": 0.1,
    "privacy.epsilon": 1e12,
    "federation.secure-aggregation": True,
    "federation.encoders": "shared",
    "evaluation.calibration": "none",
    "method.objective": "erm",
    "train.local-steps": 1,
}


CPU = torch.device("cpu")


def config(**changes: Scalar) -> Config:
    return Config.from_flat(BASE | JOINT | changes)


def one_site(folder, settings, name, keeps_answers=False, limits=None, secrets=None):
    """A site as it is in a new process: what it knows lies in its folder."""
    store = SiteStore(folder / name)
    ledger = PrivacyLedger(folder / name / "privacy")
    spender = Spender(ledger, "run", (limits or {}).get(name, limits_of(settings)))
    return Site(
        name,
        cohort(MIXES[name], list(MIXES).index(name), of=given_scale()),
        settings,
        store,
        CPU,
        keeps_answers=keeps_answers,
        secret=(secrets or {}).get(name, simulated_secret(0, name)),
        spender=spender,
        secure=SecureAnswers("run", name, fingerprint(settings), store, None, virtual=True),
    )


def sites(folder, settings, keeps_answers=False, limits=None, secrets=None):
    return [one_site(folder, settings, name, keeps_answers, limits, secrets) for name in MIXES]
