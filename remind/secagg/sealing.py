"""Boxes from one site to another, which pass through the coordinator's hands: AES-256-GCM under a key of the two."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from remind.secagg.derivation import Info, derived
from remind.secagg.limits import RefusedError

NONCE = 12
OVERHEAD = NONCE + 16  # bytes by which a box is longer than its content


def agreed(private: X25519PrivateKey, public: bytes) -> bytes:
    """The secret of two key pairs (X25519).

    Raises
    ------
    RefusedError
        The public key is none of a pair: all would know its secret.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise RefusedError("a public key is not valid") from None


def seal(secret: bytes, context: tuple[Info, ...], content: bytes) -> bytes:
    """Return a box that opens with the same secret and context alone."""
    nonce = secrets.token_bytes(NONCE)
    return nonce + AESGCM(derived(secret, "seal", *context)).encrypt(nonce, content, None)


def unseal(secret: bytes, context: tuple[Info, ...], box: bytes) -> bytes | None:
    """Return a box's content; None if it was made for another purpose, round, sender or reader, or was changed."""
    try:
        return AESGCM(derived(secret, "seal", *context)).decrypt(box[:NONCE], box[NONCE:], None)
    except (InvalidTag, ValueError):
        return None
