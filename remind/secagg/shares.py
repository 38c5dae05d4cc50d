"""Shamir's sharing of secrets of 16 bytes (pycryptodome, GF(2^128))."""

from collections.abc import Callable, Mapping
from itertools import combinations, islice

from Crypto.Protocol.SecretSharing import Shamir

SECRET = 16  # bytes of a secret, and of each share
TRIES = 2000  # sets of shares that are tried, when some are wrong


class SharesError(ValueError):
    """No secret can be put together from these shares."""


def split(secret: bytes, threshold: int, sites: int) -> list[bytes]:
    """Return one share for each site, in their order; any `threshold` of them give the secret, fewer tell nothing."""
    return [share for _, share in Shamir.split(threshold, sites, secret, ssss=False)]


def combine(shares: Mapping[int, bytes], threshold: int, fits: Callable[[bytes], bool]) -> bytes:
    """Return the secret that fits.

    Parameters
    ----------
    shares
        Position of the site, from 0 → its share. A site may have sent a wrong one: then another set is tried.
    fits
        Whether a secret is the one that its owner has committed to.

    Raises
    ------
    SharesError
        Fewer than `threshold` right shares.
    """
    if len(shares) < threshold:
        raise SharesError(f"{len(shares)} shares, {threshold} are needed")
    right = (i for i, share in sorted(shares.items()) if len(share) == SECRET)
    for chosen in islice(combinations(right, threshold), TRIES):
        secret: bytes = Shamir.combine([(i + 1, shares[i]) for i in chosen], ssss=False)
        if fits(secret):
            return secret
    raise SharesError(f"no {threshold} of {len(shares)} shares belong together")
