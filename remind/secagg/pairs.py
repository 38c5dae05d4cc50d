"""The masks of a block: those of two sites cancel in the sum, a site's own is taken off once the sum may be opened."""

import hashlib

from remind.secagg.book import Book
from remind.secagg.codec import Payload
from remind.secagg.derivation import derived
from remind.secagg.masks import Mask
from remind.secagg.plan import Plan


def add_pair(
    payload: Payload, secret: bytes, book: Book, plan: Plan, block: str, site: str, other: str, undo: bool
) -> None:
    """Add the mask of `site` with `other` to the block of `site`, or take it off; in place.

    Parameters
    ----------
    secret
        Of the two mask keys of this slot.
    plan
        Of `site`.
    """
    info = (book.digest, plan.pair(other), block, *sorted((site, other)))
    sign = (site < other) != undo
    _apply(payload, derived(secret, "pair mask", *info), sign)


def add_self(payload: Payload, seed: bytes, undo: bool) -> None:
    """Add a site's own mask to its block, or take it off; in place."""
    _apply(payload, derived(seed, "self mask"), not undo)


def committed(seed: bytes, block: str) -> str:
    """What a site publishes of the seed of its own mask: enough to recognise it, nothing to find it by."""
    return hashlib.sha256(seed + block.encode()).hexdigest()


def _apply(payload: Payload, key: bytes, add: bool) -> None:
    mask = Mask(key)
    mask.apply(payload.tensors, 1 if add else -1)
    mask.apply(payload.statistics, 1 if add else -1)
