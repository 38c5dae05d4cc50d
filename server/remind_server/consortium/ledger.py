"""The ledger: every site that was ever let in, with its key and the nonce of its request. Nothing is removed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from remind.consortium.enrolment import Slug
from remind.errors import UserError, several
from remind.suggest import did_you_mean
from remind_server.consortium.folder import read_file, write_file
from remind_server.consortium.settings import problems


class Site(BaseModel):
    """One enrolment. A hospital that comes back with a new key has two.

    Attributes
    ----------
    node_id
        Flower's; None while the SuperLink has not yet said it, after a crash say. The same request may then be enrolled
        again, and will be finished.
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
        """Sites that are in."""
        return [site for site in self.sites if site.revoked is None]

    def named(self, name: str) -> Site:
        """The site of this name that is in, or a UserError that names those there are."""
        for site in self.active():
            if site.name == name:
                return site
        names = [site.name for site in self.active()]
        hint = did_you_mean(name, names)
        raise UserError(f"no site {name!r} in this consortium{hint}; there are: {', '.join(names) or 'none'}")

    def with_site(self, changed: Site) -> "Ledger":
        """With this site added, or in place of the one with its key."""
        others: Sequence[Site] = self.sites
        if any(site.fingerprint == changed.fingerprint for site in others):
            sites = tuple(changed if site.fingerprint == changed.fingerprint else site for site in others)
        else:
            sites = (*others, changed)
        return Ledger(sites=sites)


def read_ledger(path: Path) -> Ledger:
    """The ledger in a file; empty if there is none yet."""
    if not path.exists():
        return Ledger()
    try:
        return Ledger.model_validate_json(read_file(path))
    except ValidationError as error:
        raise several(f"{path} is damaged; restore it from a backup:", problems(error)[:5]) from None


def write_ledger(path: Path, ledger: Ledger) -> None:
    """Replace the file at once, and see it on disk."""
    write_file(path, (ledger.model_dump_json(indent=2) + "\n").encode())
