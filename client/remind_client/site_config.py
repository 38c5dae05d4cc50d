"""``site.toml``: all settings of a hospital's site in one file. Its paths are relative to its folder."""

import json
import os
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from remind.consortium.enrolment import SLUG
from remind.data.cohort.verdicts import Memory
from remind.errors import UserError, several
from remind.invalid import invalid
from remind_client.audit.log import AuditLog
from remind_client.coordinator import CoordinatorSection, Kit, kit_of
from remind_client.ledger.spends import PrivacyLedger
from remind_client.policy.configurations import Configurations
from remind_client.policy.ledger import Ledger
from remind_client.policy.rules import Policy
from remind_client.vault.key import VaultKey, key_from_environment, key_from_file
from remind_client.vault.memory import NoMemory, VaultMemory
from remind_client.vault.vault import PlainVault, SealedVault, Vault

VARIABLE = "REMIND_SITE"  # names site.toml to the processes of a site
FILE_NAME = "site.toml"
VAULT_KEY = "vault.key"  # beside the private key, where site.toml names no other
EXAMINED = "examined"  # folder of the verdicts on the cohort's files
MOVED = {"policy.require": "what a run must provide is now said by: [policy.privacy] require = ['site']"}
NonEmpty = Annotated[str, StringConstraints(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Resources(_Section):
    """Resources that the site may use."""

    threads: Annotated[int, Field(ge=0, le=1024)] = Field(0, description="CPU threads; 0: all cores")
    workers: Annotated[int, Field(ge=0, le=256)] = Field(0, description="processes that read pictures ahead; 0: none")
    memory_gb: Annotated[float, Field(gt=0)] | None = Field(
        None, description="most memory of the worker, device 'cpu' only; absent: no limit of ours"
    )


class VaultSection(_Section):
    """Whether the files that the site stores for runs are encrypted, and where the key is."""

    enabled: bool = Field(True, description="false: the site's files are stored unencrypted")
    key_file: str = Field(
        "",
        description="file with the key, e.g. a mounted secret; empty: vault.key beside the private key, made if needed",
    )
    key_env: str = Field("", description="environment variable with the key")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.key_file and self.key_env:
            raise ValueError("key_file and key_env are both given; keep one")
        if not self.enabled and (self.key_file or self.key_env):
            raise ValueError("enabled = false, yet a key is named; take one of the two out")
        return self


class RetentionSection(_Section):
    """How long the site keeps the folders of old runs: a folder is deleted when it is outside both limits."""

    runs: Annotated[int, Field(ge=1, le=1000)] = Field(3, description="the last used runs stay, whatever their age")
    days: Annotated[float, Field(ge=0, le=3650)] = Field(7.0, description="runs used within so many days stay")


class AuditSection(_Section):
    """The audit log."""

    folder: str = Field("", description="folder of the audit log; empty: audit/ in the state folder")
    rotate_mb: Annotated[int, Field(ge=1, le=1024)] = Field(
        16, description="a file of this size is followed by a new one"
    )


class SiteConfig(_Section):
    """A hospital's site.

    `base` is the folder of the file, set by `load_site_config`.
    """

    site: Annotated[str, StringConstraints(pattern=SLUG)] = Field(description="this site's name in the consortium")
    key: NonEmpty = Field("site.key", description="this site's private key, made by remind-site init")
    cohort: NonEmpty = Field(description="folder of this site's cohort, or its cohort.toml")
    state: NonEmpty = Field("state", description="folder of the site's stored data")
    device: NonEmpty = Field("auto", description="auto | cpu | cuda | cuda:N")
    warm: bool = Field(True, description="keep a process with model code and cohort ready between messages")
    health_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8780, description="of the health page on loopback; 0: none"
    )
    drain_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        120.0, description="on SIGTERM: longest time to finish the current message"
    )
    roster: str = Field(
        "",
        description="file with all hospitals' names and keys, which they gave each other; for secure aggregation",
    )
    coordinator: CoordinatorSection
    resources: Resources = Resources()
    policy: Policy = Policy()
    vault: VaultSection = VaultSection()
    retention: RetentionSection = RetentionSection()
    audit: AuditSection = AuditSection()
    base: str = Field("", exclude=True)

    @model_validator(mode="after")
    def _memory_is_of_a_cpu(self) -> Self:
        if self.resources.memory_gb is not None and self.device != "cpu":
            raise ValueError(
                "resources.memory_gb works with device = 'cpu' alone (a GPU's driver maps more than it uses); with a "
                "GPU limit the container's or the unit's memory instead"
            )
        return self

    def path(self, text: str) -> Path:
        """Make a path of this file absolute."""
        return (Path(self.base) / Path(text).expanduser()).absolute()

    @property
    def state_folder(self) -> Path:
        """The folder with all state of the site."""
        return self.path(self.state)

    @property
    def runs_folder(self) -> Path:
        """The folder with encoders, optimiser state and caches of runs; the vault encrypts it."""
        return self.state_folder / "runs"

    @property
    def socket(self) -> Path:
        """The socket on which the worker listens."""
        return self.state_folder / "worker.sock"

    @property
    def key_path(self) -> Path:
        """Path of the private key."""
        return self.path(self.key)

    @cached_property
    def audit_log(self) -> AuditLog:
        """The audit log."""
        folder = self.path(self.audit.folder) if self.audit.folder else self.state_folder / "audit"
        return AuditLog(folder, self.audit.rotate_mb << 20)

    @cached_property
    def ledger(self) -> Ledger:
        """The policy's ledger."""
        return Ledger(self.state_folder / "policy")

    @property
    def configurations(self) -> Configurations:
        """The run configs that were asked of this site."""
        return Configurations(self.state_folder / "configurations")

    @cached_property
    def privacy_ledger(self) -> PrivacyLedger:
        """What runs have spent of the patients' privacy."""
        return PrivacyLedger(self.state_folder / "privacy")

    def kit(self) -> Kit:
        """Return the address of the coordinator and the certificates that identify it.

        Raises
        ------
        UserError
            If the certificates are missing.
        """
        return kit_of(self.coordinator, self.path(self.coordinator.ca_certificate))

    @property
    def vault_key_path(self) -> Path | None:
        """File of the vault's key; None if the key is in the environment, or if there is no vault."""
        if not self.vault.enabled or self.vault.key_env:
            return None
        return self.path(self.vault.key_file) if self.vault.key_file else self.key_path.with_name(VAULT_KEY)

    def vault_key(self) -> VaultKey | None:
        """Return the vault's key; None without a vault.

        Raises
        ------
        UserError
            If the key cannot be read.
        """
        if (path := self.vault_key_path) is not None:
            return key_from_file(path)
        return key_from_environment(self.vault.key_env) if self.vault.enabled else None

    def open_vault(self) -> Vault:
        """Return the vault for the files that the site stores for runs."""
        key = self.vault_key()
        return SealedVault(self.runs_folder, [key]) if key else PlainVault()

    def memory(self) -> Memory:
        """Return the cache of checked cohort files; the vault encrypts it."""
        try:
            return VaultMemory(self.runs_folder / EXAMINED, self.open_vault())
        except UserError:  # no key yet: nothing is remembered, least of all unencrypted
            return NoMemory()


def load_site_config(path: Path) -> SiteConfig:
    """Load the configuration from a file, or from ``site.toml`` in a folder.

    Raises
    ------
    UserError
        With every mistake: field, value unless it is secret, remedy.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}; make one with: remind-site init KIT") from None
    except ValueError as error:
        raise UserError(f"{file}: no TOML: {error}") from None
    if "base" in values:
        raise UserError(f"{file}: base: no such setting; remove it")
    try:  # as JSON: strict, yet lists become tuples; a date becomes text and is refused as such
        return SiteConfig.model_validate_json(json.dumps({**values, "base": str(file.absolute().parent)}, default=str))
    except ValidationError as error:
        raise several(f"{file}: not valid:", invalid(error, SiteConfig, moved=MOVED)) from None


def with_vault_key(site: SiteConfig, file: Path | None) -> SiteConfig:
    """Return the configuration with the vault's key in another file; None: as it is.

    Raises
    ------
    UserError
        The site has no vault.
    """
    if file is None:
        return site
    if not site.vault.enabled:
        raise UserError("--vault-key: the vault is switched off in site.toml; leave it out")
    return site.model_copy(update={"vault": VaultSection(key_file=str(file.absolute()))})


def this_site() -> SiteConfig | None:
    """Return the site that the environment names; None if it names none, as in a simulation."""
    path = os.environ.get(VARIABLE)
    return load_site_config(Path(path)) if path else None
