"""The masks of a block. Pairwise masks cancel in the sum; a site's own mask is removed when the sum is unmasked."""

import hashlib

from remind.secagg.book import Book
from remind.secagg.codec import Payload
from remind.secagg.derivation import derive
from remind.secagg.masks import Mask
from remind.secagg.plan import Plan


def add_pair(
    payload: Payload, secret: bytes, book: Book, plan: Plan, block: str, site: str, other: str, undo: bool
) -> None:
    """Add the pairwise mask of `site` and `other` to the block of `site`, or remove it if `undo`; in place.

    Parameters
    ----------
    secret
        The shared secret of the two mask keys of this slot.
    plan
        The plan of `site`.
    """
    info = (book.digest, plan.pair(other), block, *sorted((site, other)))
    sign = (site < other) != undo
    _apply(payload, derive(secret, "pair mask", *info), sign)


def add_self(payload: Payload, seed: bytes, undo: bool) -> None:
    """Add a site's own mask to its block, or remove it if `undo`; in place."""
    _apply(payload, derive(seed, "self mask"), not undo)


def commitment(seed: bytes, block: str) -> str:
    """Return the commitment to the seed of a site's own mask: it verifies the seed and does not reveal it."""
    return hashlib.sha256(seed + block.encode()).hexdigest()


def _apply(payload: Payload, key: bytes, add: bool) -> None:
    mask = Mask(key)
    mask.apply(payload.tensors, 1 if add else -1)
    mask.apply(payload.statistics, 1 if add else -1)
