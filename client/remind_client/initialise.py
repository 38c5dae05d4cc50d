"""``remind-site init``: creates site.toml, the key pair, and the enrolment request for the consortium."""

import json
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from remind.consortium.enrolment import Slug, fingerprint, make_request, public_key_text
from remind.errors import UserError
from remind.files import write_whole
from remind.invalid import invalid
from remind.processes.private_files import private_folder
from remind_client.coordinator import CoordinatorSection, kit_of
from remind_client.identity import new_private_key, put_aside, read_private_key
from remind_client.site_config import FILE_NAME, VAULT_KEY
from remind_client.vault.key import new_key_file

REQUEST = "enrolment-request.json"
KEY = "site.key"
AGAIN = "ask the coordinator for the kit again"


class _Given(BaseModel):
    """What a kit's site.toml must say; the hospital adds the rest."""

    site: Slug
    coordinator: CoordinatorSection


TEMPLATE = """\
# This hospital's site. Paths are relative to this file. Look at everything: remind-site check
site = {site}
key = {key}  # never leaves this machine
cohort = {cohort}
state = "state"  # the site's stored data: encoders, audit log
device = "auto"  # auto | cpu | cuda | cuda:N
health_port = 8780  # http://127.0.0.1:8780/status ; 0: none
drain_seconds = 120.0  # at a stop: longest time to finish the current message
# roster = "roster.toml"  # all hospitals' keys, compared with them: for runs with secure aggregation

[coordinator]
consortium = {consortium}
address = {address}
ca_certificate = "ca.crt"

[resources]
threads = 0  # CPU threads; 0: all cores
workers = 0  # processes that read pictures ahead

[policy]  # what this hospital allows; everything else is refused (docs/hospital-guide.md)
runs = ["federated-remind/*"]
minimum_patients = 10  # smaller groups are not reported in any message
tensors = ["shared", "group:*"]  # an encoder never leaves unless "encoder:*" is added
models = ["pretrained", "random", "words"]  # weights and text models that a run may name
minimum_batch = 16  # least patients per step that a run may train with
minimum_steps = 2  # least steps of a round
optimizers = ["adamw"]  # "sgd": one step of it sends the plain gradient of one batch
maximum_learning_rate = 0.1
rounds_per_run = 500
examinations_per_run = 10
# share_name = true  # the card of a model that is given away may name this hospital
# share_encoders = true  # remind-site export may include this hospital's encoders
# rounds_per_day = 50
# hours = ["mon-fri 19:00-07:00", "sat,sun 00:00-24:00"]
# timezone = "Europe/Zurich"
# approval = true  # every run config must be approved here first: remind-site approve
# configurations = ["…"]  # only these run configs, by fingerprint (remind-site audit show --json tells it)
# bundles = ["…"]  # only these bundles, by SHA-256

[policy.privacy]  # the guarantee for each patient that a run must give (docs/privacy.md)
# require = ["site", "secure-aggregation"]  # refuse runs without this site's own noise, or without masks
# epsilon_per_run = 8.0
# epsilon_for_life = 20.0
# delta = 1e-5  # at most a tenth of 1/n of this site's n patients
# colluding = 1  # hospitals whose shares of a joint run's noise must not be counted on
# tell = true  # the coordinator is told what a run has spent here and what it has left

[vault]  # encrypts the site's stored files, by default with vault.key beside the private key
# key_file = "/run/secrets/vault.key"  # better: off the data's disk; remind-site vault key FILE makes one
# key_env = "REMIND_VAULT_KEY"
# enabled = false  # store everything unencrypted

[retention]  # of runs that are over: the last used ones stay, and those used within so many days
runs = 3
days = 7.0

[audit]
# folder = "/var/log/remind-site"
"""


@dataclass(frozen=True)
class Initialised:
    """The created files; `vault_key` is None if the vault is off, or if its key existed or is named in site.toml."""

    config: Path
    request: Path
    fingerprint: str
    vault_key: Path | None = None


def initialise(kit: Path, folder: Path, cohort: str, location: str, new_key: bool = False) -> Initialised:
    """Create a site in a folder from a kit. Keep an existing key or site.toml; write a new request.

    Parameters
    ----------
    new_key
        Rename an existing key to ``site.key.old-…`` and create another.

    Raises
    ------
    UserError
        If the kit is not valid, or no cohort is named.
    """
    try:
        given = _Given.model_validate(_read(kit / FILE_NAME))
    except ValidationError as error:
        raise UserError(f"{kit / FILE_NAME}: {invalid(error, _Given)[0]}; {AGAIN}") from None
    site, section = given.site, given.coordinator
    certificates = kit_of(section, kit / section.ca_certificate).certificates
    config = folder / FILE_NAME
    if config.exists():
        key_path = folder / str(_read(config).get("key", KEY))
    else:
        key_path = folder / KEY
        _make(config, section, site, cohort, certificates)
    if new_key and key_path.exists():
        put_aside(key_path)
    key = read_private_key(key_path) if key_path.exists() else new_private_key(key_path)
    text = make_request(key, consortium=section.consortium, site=site, location=location)
    request = key_path.with_name(REQUEST)  # site.toml may be in a read-only folder
    write_whole(request, lambda partial: partial.write_text(text, "utf-8"))
    vault_key = _vault_key(_read(config).get("vault", {}), key_path.with_name(VAULT_KEY))
    return Initialised(config, request, fingerprint(public_key_text(key.public_key())), vault_key)


def _vault_key(section: Any, path: Path) -> Path | None:
    """Create the vault's key, unless the site has one, names one or turned the vault off."""
    told = isinstance(section, dict) and (section.get("key_file") or section.get("key_env"))
    off = isinstance(section, dict) and section.get("enabled") is False
    if told or off or path.exists():
        return None
    new_key_file(path)
    return path


def _make(config: Path, section: CoordinatorSection, site: str, cohort: str, certificates: Path) -> None:
    if not cohort:
        raise UserError(f"{config}: is not there yet; give --cohort FOLDER, or complete the kit's site.toml")
    try:
        private_folder(config.parent)
        shutil.copyfile(certificates, config.parent / "ca.crt")
    except OSError as error:
        raise UserError(f"{config.parent}: cannot be written to: {error.strerror}") from None
    values = {
        "site": site,
        "key": KEY,
        "cohort": str(Path(cohort).absolute()),
        "consortium": section.consortium,
        "address": section.address,
    }
    text = TEMPLATE.format(**{name: json.dumps(value) for name, value in values.items()})
    write_whole(config, lambda partial: partial.write_text(text, "utf-8"))


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}; name the folder the coordinator sent") from None
    except ValueError as error:
        raise UserError(f"{file}: no TOML: {error}; {AGAIN}") from None
