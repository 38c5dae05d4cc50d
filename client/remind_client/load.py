"""Load the site of this process: a virtual hospital of a simulation, or a real one with its own cohort."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from remind.config import Config, Scalar
from remind.data.sites.hospitals import virtual_hospitals, with_split
from remind.data.sites.sites import Site as Hospital
from remind.errors import UserError
from remind.paths import results_folder, run_name
from remind.processes.memory import keep_freed_memory
from remind.training.device import choose_device
from remind_client.cohort_cache import cached_cohort, cohort_version
from remind_client.engine.private_steps import simulated_secret
from remind_client.ledger.rollback import require_newest
from remind_client.ledger.spender import Spender, limits_of
from remind_client.ledger.spends import PrivacyLedger
from remind_client.policy.rules import fingerprint
from remind_client.retention import prune
from remind_client.rounds.secure import SecureAnswers
from remind_client.rounds.site import Site
from remind_client.site_config import this_site
from remind_client.store.site_store import SiteStore
from remind_client.vault.vault import PlainVault

LEDGER = "privacy"  # folder of a virtual hospital's privacy ledger


@dataclass(frozen=True)
class Identity:
    """Identity of this node: `partition` of `partitions` in a simulation, otherwise the site's own settings."""

    partition: int | None
    partitions: int | None
    cohort: str
    state: str
    site: str

    @classmethod
    def of(cls, node_config: Mapping[str, Scalar]) -> "Identity":
        """Read the identity from Flower's node config: a real hospital has ``cohort``, ``state-dir`` and ``site``.

        Only the simulation engine sets ``partition-id``. A hospital that forgot its ``cohort`` must not become a
        virtual one, which trains on synthetic patients and suppresses nothing.
        """
        real = "cohort" in node_config or "partition-id" not in node_config
        return cls(
            partition=None if real else int(node_config.get("partition-id", 0)),
            partitions=None if real else int(node_config.get("num-partitions", 1)),
            cohort=str(node_config.get("cohort", "")),
            state=str(node_config.get("state-dir", "")),
            site=str(node_config.get("site", "")),
        )

    @property
    def virtual(self) -> bool:
        """Whether this is a virtual hospital."""
        return self.partition is not None


def load_site(identity: Identity, config: Config, run_id: int) -> Site:
    """Return the site with its data, ready for messages.

    Raises
    ------
    UserError
        If its cohort or its settings are not valid.
    """
    if identity.partition is not None and identity.partitions is not None:
        hospitals = virtual_hospitals(config.data, config.synthetic, config.seed, identity.partitions)
        hospital = hospitals[identity.partition]
        minimum = 1
        folder = results_folder(config, run_id) / "sites" / str(identity.partition)  # a name may hold slashes
        store = SiteStore(folder, PlainVault(durable=False))
    else:
        if not identity.cohort:
            raise UserError("node config: cohort is missing; give the folder of this site's cohort")
        if not identity.state:
            raise UserError("node config: state-dir is missing; give the folder where this site keeps its encoders")
        ours = this_site()
        own = Hospital(identity.site or "site", cached_cohort(identity.cohort, ours.memory() if ours else None))
        minimum = ours.policy.minimum_patients if ours else 1  # smaller groups are suppressed
        hospital = with_split(own, config.data, config.seed, minimum if minimum > 1 else 0)
        folder = Path(identity.state) / f"run-{run_name(config, run_id)}"
        if ours is not None and not folder.exists():
            prune(folder.parent, ours.retention, folder.name)
        store = SiteStore(folder, ours.open_vault() if ours else PlainVault())
    device = choose_device(config.device)
    secret, spender = _private(identity, config, run_id, store, hospital.name)
    return Site(
        hospital.name,
        hospital.cohort,
        config,
        store,
        device,
        minimum,
        keeps_answers=not identity.virtual,
        secret=secret,
        spender=spender,
        version="" if identity.virtual else cohort_version(identity.cohort),
        secure=_secure(config, run_id, hospital.name, store, identity.virtual),
    )


def _private(
    identity: Identity, config: Config, run_id: int, store: SiteStore, name: str
) -> tuple[bytes, Spender | None]:
    """Return the site's secret, and what pays for the run; nothing where the run gives no privacy guarantee."""
    if config.privacy.mode == "none":
        return b"", None
    run = run_name(config, run_id)
    if identity.virtual:
        ledger = PrivacyLedger(store.folder / LEDGER)
        return simulated_secret(config.seed, name), Spender(ledger, run, limits_of(config))
    ours = this_site()
    if ours is None:
        raise UserError(
            f"privacy.mode = {config.privacy.mode!r} needs a privacy ledger, which a site has that remind-site runs"
        )
    ledger = ours.privacy_ledger
    require_newest(ledger, ours.audit_log)
    return ledger.secret, Spender(ledger, run, limits_of(config, ours.policy.privacy), ours.audit_log)


def _secure(config: Config, run_id: int, name: str, store: SiteStore, virtual: bool) -> SecureAnswers | None:
    """Return what masks the site's answers; None if the run does not aggregate securely."""
    if not config.federation.secure_aggregation:
        return None
    ours = None if virtual else this_site()  # a simulation may run on the machine of a hospital
    return SecureAnswers(run_name(config, run_id), name, fingerprint(config), store, ours, virtual)


def prepare_process(threads: int) -> None:
    """Prepare this process for training: reuse freed memory, and use `threads` CPU threads, 0: one per core.

    Another number of threads changes the order of sums, and with it the rounding of the model.
    """
    torch.set_num_threads(threads or os.cpu_count() or 1)
    keep_freed_memory()
