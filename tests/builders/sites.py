"""A site in the process of the test."""

from pathlib import Path

import torch

from remind.config import Config
from remind.data.cohort.cohort import Cohort
from remind_client.policy.rules import fingerprint
from remind_client.rounds.secure import SecureAnswers
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore

CPU = torch.device("cpu")


def site(name: str, patients: Cohort, config: Config, folder: Path) -> Site:
    """A site that keeps its state under `folder`."""
    store = SiteStore(folder / name)
    secure = SecureAnswers("run", name, fingerprint(config), store, None, virtual=True)
    return Site(name, patients, config, store, CPU, secure=secure)
