"""The ledger: every site ever enrolled, with its key and the nonce of its request. Entries are never removed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from remind.consortium.enrolment import Slug
from remind.errors import UserError, several
from remind.invalid import invalid
from remind.suggest import did_you_mean
from remind_server.consortium.folder import read_file, write_file


class Site(BaseModel):
    """One enrolment. A hospital that returns with a new key has two.

    Attributes
    ----------
    node_id
        Flower's id; None until the SuperLink has assigned it, e.g. after a crash. Enrolling the same request again then
        completes the enrolment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Slug
    location: str
    public_key: str
    fingerprint: str
    nonce: str
    requested: AwareDatetime
    enrolled: AwareDatetime
    node_id: int | None = None
    revoked: AwareDatetime | None = None


class Ledger(BaseModel):
    """All enrolments, oldest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    sites: tuple[Site, ...] = ()

    def active(self) -> list[Site]:
        """Return the enrolled sites."""
        return [site for site in self.sites if site.revoked is None]

    def named(self, name: str) -> Site:
        """Return the enrolled site of this name; if there is none, raise a UserError that lists the names."""
        for site in self.active():
            if site.name == name:
                return site
        names = [site.name for site in self.active()]
        hint = did_you_mean(name, names)
        raise UserError(f"no site {name!r} in this consortium{hint}; its sites are: {', '.join(names) or 'none'}")

    def with_site(self, changed: Site) -> "Ledger":
        """Return the ledger with this site added, or replacing the site with the same key."""
        others: Sequence[Site] = self.sites
        if any(site.fingerprint == changed.fingerprint for site in others):
            sites = tuple(changed if site.fingerprint == changed.fingerprint else site for site in others)
        else:
            sites = (*others, changed)
        return Ledger(sites=sites)


def read_ledger(path: Path) -> Ledger:
    """Read the ledger from a file; empty if the file does not exist."""
    if not path.exists():
        return Ledger()
    try:
        return Ledger.model_validate_json(read_file(path))
    except ValidationError as error:
        raise several(f"{path} is damaged; restore it from a backup:", invalid(error, Ledger)[:5]) from None


def write_ledger(path: Path, ledger: Ledger) -> None:
    """Replace the file atomically and flush it to disk."""
    write_file(path, (ledger.model_dump_json(indent=2) + "\n").encode())
