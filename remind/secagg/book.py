"""The book: the signed keys of all sites of a run. Every key that two sites agree on depends on the whole of it."""

import hashlib
from collections.abc import Mapping
from functools import cached_property

from remind.secagg.keys import SignedKeys, Typed
from remind.secagg.limits import FEWEST, RefusedError, threshold


class Book(Typed):
    """Sites by name, ascending."""

    sites: tuple[SignedKeys, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of all of it: sites that were shown different books share no key."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The sites."""
        return tuple(keys.site for keys in self.sites)

    @property
    def threshold(self) -> int:
        """Shares that open a secret."""
        return threshold(len(self.sites))

    @cached_property
    def by_name(self) -> Mapping[str, SignedKeys]:
        """Site → its keys."""
        return {keys.site: keys for keys in self.sites}

    def position(self, site: str) -> int:
        """Whose share is whose, from 0."""
        return self.names.index(site)


def require_valid(book: Book, own: SignedKeys, roster: Mapping[str, str] | None) -> None:
    """Refuse a book by which a coordinator could stand in for sites.

    Parameters
    ----------
    own
        What this site published.
    roster
        Site → its enrolled public key, as the hospital got it from the others and not from the coordinator; None: a
        simulation, whose sites have no enrolled keys.

    Raises
    ------
    RefusedError
        With the reason.
    """
    if len(book.sites) < FEWEST:
        raise RefusedError(f"{len(book.sites)} sites; a sum over fewer than {FEWEST} would protect nobody")
    if list(book.names) != sorted(set(book.names)):
        raise RefusedError("the sites are not in order, or one is named twice")
    if book.by_name.get(own.site) != own:
        raise RefusedError(f"the keys under the name of {own.site} are not those that it published")
    keys = [key for site in book.sites for key in site.all_keys()]
    for site in book.sites:
        if (site.run, site.terms, site.slots) != (own.run, own.terms, own.slots):
            raise RefusedError(f"the keys of {site.site} are of another run, or of other settings")
        if roster is not None and roster.get(site.site) != site.public_key:
            raise RefusedError(f"{site.site} is not in this site's roster with that key")
        site.require_signed()
    if len(set(keys)) != len(keys) or len({site.public_key for site in book.sites}) != len(book.sites):
        raise RefusedError("two sites have the same key")
