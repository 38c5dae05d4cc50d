"""Shamir secret sharing of secrets of 16 bytes (pycryptodome, GF(2^128))."""

from collections.abc import Callable, Mapping
from itertools import combinations, islice

from Crypto.Protocol.SecretSharing import Shamir

SECRET = 16  # bytes of a secret, and of each share
TRIES = 2000  # maximum number of subsets of shares to try if some shares are wrong


class SharesError(ValueError):
    """No secret can be reconstructed from these shares."""


def split(secret: bytes, threshold: int, sites: int) -> list[bytes]:
    """Return one share for each site, in order. Any `threshold` of them give the secret; fewer reveal nothing."""
    return [share for _, share in Shamir.split(threshold, sites, secret, ssss=False)]


def combine(shares: Mapping[int, bytes], threshold: int, fits: Callable[[bytes], bool]) -> bytes:
    """Reconstruct a secret that satisfies `fits`.

    Parameters
    ----------
    shares
        Index of the site, from 0 → its share. If a site sent a wrong share, other subsets of the shares are tried.
    fits
        Whether a secret is the one to which its owner has committed.

    Raises
    ------
    SharesError
        There are fewer than `threshold` correct shares.
    """
    if len(shares) < threshold:
        raise SharesError(f"{len(shares)} shares; {threshold} are needed")
    right = (i for i, share in sorted(shares.items()) if len(share) == SECRET)
    for chosen in islice(combinations(right, threshold), TRIES):
        secret: bytes = Shamir.combine([(i + 1, shares[i]) for i in chosen], ssss=False)
        if fits(secret):
            return secret
    raise SharesError(f"no {threshold} of {len(shares)} shares give the secret")
