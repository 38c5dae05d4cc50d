"""Boxes: encrypted data from one site to another, which the coordinator forwards. AES-256-GCM with a shared key."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from remind.secagg.derivation import Info, derive
from remind.secagg.limits import RefusedError

NONCE = 12
OVERHEAD = NONCE + 16  # difference in bytes between a box and its content


def shared_secret(private: X25519PrivateKey, public: bytes) -> bytes:
    """Return the shared secret of two key pairs (X25519).

    Raises
    ------
    RefusedError
        The public key has a small order, so that everybody would know the secret.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise RefusedError("a public key is not valid") from None


def seal(secret: bytes, context: tuple[Info, ...], content: bytes) -> bytes:
    """Encrypt `content`. Only the same secret and context open the box."""
    nonce = secrets.token_bytes(NONCE)
    return nonce + AESGCM(derive(secret, "seal", *context)).encrypt(nonce, content, None)


def unseal(secret: bytes, context: tuple[Info, ...], box: bytes) -> bytes | None:
    """Decrypt a box; None if it was changed, or sealed for another purpose, round, sender or receiver."""
    try:
        return AESGCM(derive(secret, "seal", *context)).decrypt(box[:NONCE], box[NONCE:], None)
    except (InvalidTag, ValueError):
        return None
