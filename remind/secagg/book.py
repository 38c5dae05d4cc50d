"""The key book: the signed public keys of all sites of a run.

Every key that two sites agree on depends on the digest of the whole book.
"""

import hashlib
from collections.abc import Mapping
from functools import cached_property

from remind.secagg.keys import SignedKeys, Typed
from remind.secagg.limits import FEWEST, RefusedError, threshold


class Book(Typed):
    """The signed keys of all sites, sorted by the names of the sites."""

    sites: tuple[SignedKeys, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the whole book. Sites that received different books therefore share no key."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the sites, ascending."""
        return tuple(keys.site for keys in self.sites)

    @property
    def threshold(self) -> int:
        """Number of shares that reconstruct a secret."""
        return threshold(len(self.sites))

    @cached_property
    def by_name(self) -> Mapping[str, SignedKeys]:
        """Map from the name of a site to its keys."""
        return {keys.site: keys for keys in self.sites}

    def position(self, site: str) -> int:
        """Return the index of a site, from 0: the index of its share of every secret."""
        return self.names.index(site)


def require_valid(book: Book, own: SignedKeys, roster: Mapping[str, str] | None) -> None:
    """Refuse a book with which a coordinator could impersonate sites.

    Parameters
    ----------
    own
        The keys that this site published.
    roster
        Site → its enrolled public key. The hospital received it from the other hospitals, not from the coordinator.
        None in a simulation, whose sites have no enrolled keys.

    Raises
    ------
    RefusedError
        The book is not valid. The text gives the reason.
    """
    if len(book.sites) < FEWEST:
        raise RefusedError(f"the run has {len(book.sites)} sites; secure aggregation needs at least {FEWEST}")
    if list(book.names) != sorted(set(book.names)):
        raise RefusedError("the sites are not sorted by name, or a name occurs twice")
    if book.by_name.get(own.site) != own:
        raise RefusedError(f"the keys listed for {own.site} are not the keys that it published")
    keys = [key for site in book.sites for key in site.all_keys()]
    for site in book.sites:
        if (site.run, site.terms, site.slots) != (own.run, own.terms, own.slots):
            raise RefusedError(f"the keys of {site.site} belong to another run, or to other settings")
        if roster is not None and roster.get(site.site) != site.public_key:
            raise RefusedError(f"this site's roster does not list {site.site} with that key")
        site.require_signed()
    if len(set(keys)) != len(keys) or len({site.public_key for site in book.sites}) != len(book.sites):
        raise RefusedError("two sites have the same key")
