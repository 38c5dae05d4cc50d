"""Checks on this machine: key, cohort, device, disk, policy, vault, audit log, launcher."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from remind.consortium.enrolment import fingerprint, public_key_text
from remind.data.checks.check import check_cohort
from remind.disk import disk_error
from remind.errors import UserError
from remind.processes.private_files import private_folder
from remind_client.audit.log import segments
from remind_client.audit.verify import verify
from remind_client.checks.finding import Finding, failed, ok, warning
from remind_client.identity import read_private_key
from remind_client.launcher.install import OTHERS, install_launchers
from remind_client.ledger.rollback import REMEDY as ROLLBACK_REMEDY
from remind_client.ledger.rollback import rollback_problem
from remind_client.site_config import SiteConfig
from remind_client.supervisor.flower import LAUNCHERS
from remind_client.vault.rotate import is_sealed, unreadable

ENOUGH_DISK = 5 << 30
LEAST_DISK = 512 << 20  # below it a round's encoders, optimiser and tokens will hardly fit


def check_key(site: SiteConfig) -> Iterator[Finding]:
    """Check the private key: it exists, has the right type, and only its owner can read it."""
    path = site.key_path
    try:
        key = read_private_key(path)
    except UserError as error:
        yield failed("key", str(error), "")
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield failed(
            "key",
            f"{path}: mode {mode:04o}, other users can read it",
            f"chmod 600 {path}; if someone may have read it, create a new key",
        )
        return
    yield ok("key", f"{path}: {fingerprint(public_key_text(key.public_key()))}")


def check_cohort_of(site: SiteConfig) -> Iterator[Finding]:
    """Check the cohort, and report the groups that the policy would suppress."""
    try:
        report = check_cohort(site.path(site.cohort), memory=site.memory(), alone=False)
    except UserError as error:
        yield failed("cohort", str(error), "see docs/cohorts.md")
        return
    if not report.ok:
        problems = "\n".join(f"- {problem}" for problem in report.problems)
        yield failed("cohort", f"{site.path(site.cohort)} is not valid\n{problems}", "see docs/cohorts.md")
        return
    yield ok("cohort", f"{report.patients} patients in {len(report.groups)} groups")
    privacy = site.policy.privacy
    if {"site", "joint"} & set(privacy.require):
        from remind.privacy_plan import delta_problem  # loads torch

        if large := delta_problem("policy.privacy.delta", privacy.delta, report.patients):
            text, _, remedy = large.partition(". ")
            yield warning("delta", text, remedy)
    minimum = site.policy.minimum_patients
    small = [row.name for row in report.groups if row.patients < minimum]
    if len(small) == len(report.groups):
        yield failed(
            "suppression",
            f"no group has {minimum} patients, so this site can report nothing and cannot take part",
            "more patients, or a lower policy.minimum_patients",
        )
    elif small:
        yield warning(
            "suppression",
            f"never reported nor trained on, fewer than {minimum} patients: {', '.join(small)}",
            "none, if policy.minimum_patients is set as intended",
        )


def check_device(site: SiteConfig) -> Iterator[Finding]:
    """Check the device: CPU or GPU."""
    import torch

    from remind.training.device import choose_device

    try:
        device = choose_device(site.device)
    except UserError as error:
        yield failed("device", str(error), "run nvidia-smi; give the container access to the GPU")
        return
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        yield ok("device", f"{torch.cuda.get_device_name(device)}, {free >> 20} of {total >> 20} MiB free")
    elif site.device == "auto":
        yield warning("device", "no GPU here; training runs on the CPU", 'set device = "cpu" if this is intended')
    else:
        yield ok("device", str(device))


def check_state(site: SiteConfig) -> Iterator[Finding]:
    """Check the state folder: writable, private, with enough free space."""
    folder = site.state_folder
    try:
        private_folder(folder)
        probe = folder / ".check"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        yield failed(
            "state",
            f"{folder}: cannot be written to: {error.strerror}",
            "make it writable for the user that runs the site",
        )
        return
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o007:
        yield warning(
            "state", f"{folder}: mode {mode:04o}, all users of this machine can read it", f"chmod 700 {folder}"
        )
    free = shutil.disk_usage(folder).free
    if free < LEAST_DISK:
        yield failed(
            "disk", f"{free >> 20} MiB free in {folder}", f"free disk space: {ENOUGH_DISK >> 30} GiB are needed"
        )
    elif free < ENOUGH_DISK:
        yield warning("disk", f"{free >> 20} MiB free in {folder}", f"{ENOUGH_DISK >> 30} GiB are recommended")
    else:
        yield ok("disk", f"{free >> 30} GiB free in {folder}")


def check_launcher(site: SiteConfig) -> Iterator[Finding]:
    """Check that programs can start from the state folder: a hardened mount (noexec) prevents it."""
    folder = site.state_folder / LAUNCHERS
    try:
        if not folder.is_dir():  # otherwise a running site has installed them
            install_launchers(folder, None)
        done = subprocess.run([folder / OTHERS[0]], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        full = disk_error(error)
        remedy = "make room there" if full is not None else "mount the state folder without noexec"
        yield failed("launcher", f"{folder}: cannot start a program there: {error}", remedy)
        return
    if "refused" not in done.stderr:
        yield failed(
            "launcher",
            f"{folder}: contains other programs than the site's own",
            f"remove {folder}; remind-site run creates it again",
        )
        return
    yield ok("launcher", str(folder))


def check_policy(site: SiteConfig) -> Iterator[Finding]:
    """Check the policy: warn about settings that are probably mistakes."""
    policy, before = site.policy, True
    if not policy.runs:
        yield failed("policy", "policy.runs is empty: no run is allowed", 'runs = ["federated-remind/*"]')
        before = False
    if not any(pattern in {"*", "shared"} for pattern in policy.tensors):
        yield failed(
            "policy",
            "policy.tensors forbids to send shared tensors: every round is refused",
            'tensors = ["shared", "group:*"]',
        )
        before = False
    if policy.minimum_patients < 5:
        yield warning("policy", f"policy.minimum_patients is {policy.minimum_patients}", "5 or 10 are usual")
    if policy.code_bundles:
        yield warning(
            "policy",
            f"{len(policy.code_bundles)} bundle(s) may contain code, which can read everything that this site can read",
            "list only hashes of code that this hospital has reviewed; with them, the warm worker is off",
        )
    if any(pattern in {"*", "encoder:*"} or pattern.startswith("encoder:") for pattern in policy.tensors):
        yield warning(
            "policy", "policy.tensors allows to send encoders", "keep this only if the consortium has agreed on it"
        )
    if before:
        yield ok("policy", f"digest {policy.digest[:16]}")


def check_vault(site: SiteConfig) -> Iterator[Finding]:
    """Check the vault's key, and that it encrypts all stored files."""
    path = site.vault_key_path
    if not site.vault.enabled:
        yield warning(
            "vault", "switched off: encoders and optimiser state are stored unencrypted", "take vault.enabled out"
        )
        return
    if not site.vault.key_file and path is not None and not path.exists():
        if site.runs_folder.is_dir() and is_sealed(site.runs_folder):
            yield failed("vault", f"{path}: is missing, but files are encrypted with it", "restore it from your copy")
            return
        yield warning("vault", f"{path}: no key yet", "remind-site run creates it; keep a copy on another disk")
        return
    try:
        key = site.vault_key()
    except UserError as error:
        yield failed("vault", str(error), "")
        return
    assert key is not None
    if path is not None and _within(path, site.state_folder):
        yield warning("vault", "the key is in the state folder, beside the files that it encrypts", "keep it elsewhere")
    strange = list(unreadable(site.runs_folder, key)) if site.runs_folder.is_dir() else []
    if strange:
        yield failed(
            "vault", "\n".join(strange[:5]), "remind-site vault seal, or vault rotate; or remove the run's folder"
        )
        return
    yield ok("vault", f"key {key.id.hex()}")


def check_ledger(site: SiteConfig) -> Iterator[Finding]:
    """Check that the privacy ledger is whole and knows every spend that the audit log does, and what is left."""
    ledger, limits = site.privacy_ledger, site.policy.privacy
    try:
        problems, older = ledger.problems(), rollback_problem(ledger, site.audit_log)
    except UserError as error:
        yield failed("ledger", str(error), "")
        return
    if problems or older:
        remedy = ROLLBACK_REMEDY if not problems else "restore the newest copy; remind-site audit show --event spent"
        yield failed("ledger", "\n".join([*problems, *([older] if older else [])]), remedy)
        return
    spent = ledger.lifetime_total().epsilon(limits.delta)
    limit = limits.epsilon_for_life
    if limit is not None and spent >= limit:
        remedy = "raise policy.privacy.epsilon_for_life, or take no part in runs that need it"
        yield warning(
            "ledger", f"epsilon {spent:.3g} of {limit:g} for life is spent: runs with noise are refused", remedy
        )
        return
    yield ok("ledger", f"epsilon {spent:.3g} spent{'' if limit is None else f' of {limit:g} for life'}")


def check_audit(site: SiteConfig) -> Iterator[Finding]:
    """Check the hash chain of the audit log."""
    folder = site.audit_log.folder
    if not segments(folder):
        yield ok("audit", f"{folder}: nothing yet")
        return
    verdict = verify(folder)
    if not verdict.ok:
        yield failed("audit", "\n".join(verdict.problems[:5]), "remind-site audit verify; docs/exit-codes-site.md, 11")
        return
    yield ok("audit", f"{verdict.entries} entries, head {verdict.head}")


def check_user(site: SiteConfig) -> Iterator[Finding]:
    """Check which user runs the site."""
    del site
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        yield warning("user", "running as root", "run the site as a dedicated user")


def _within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
