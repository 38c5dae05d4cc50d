"""The site's key pair on curve P-384, as Flower requires. The site creates it, and the private key never leaves."""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from remind.consortium.enrolment import fingerprint, public_key_text
from remind.errors import UserError
from remind.processes.private_files import write_private

REMEDY = "make one with: remind-site init KIT"


def new_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Create a key and write it to a new file, mode 0600; the public key goes beside it, ``.pub``.

    Raises
    ------
    UserError
        If the file exists: this site may be enrolled with that key.
    """
    if path.exists():
        raise UserError(
            f"{path}: exists; this site may be enrolled with it. For a new key: remind-site init KIT --new-key"
        )
    key = ec.generate_private_key(ec.SECP384R1())
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    try:
        write_private(path, text)
        path.with_name(f"{path.name}.pub").write_text(public_key_text(key.public_key()) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot write the key: {error.strerror}") from None
    return key


def put_aside(path: Path) -> Path:
    """Rename a key pair to ``NAME.old-…`` with its fingerprint, so that nothing is lost; return the new path."""
    digest = fingerprint(public_key_text(read_private_key(path).public_key())).removeprefix("SHA256:")
    old = path.with_name(f"{path.name}.old-{''.join(c for c in digest if c.isalnum())[:12]}")
    try:
        os.replace(path, old)
        if (public := path.with_name(f"{path.name}.pub")).exists():
            os.replace(public, old.with_name(f"{old.name}.pub"))
    except OSError as error:
        raise UserError(f"{path}: cannot be renamed: {error.strerror}") from None
    return old


def read_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the key from a file.

    Raises
    ------
    UserError
        Flower does not accept the key.
    """
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), None)
    except OSError as error:
        raise UserError(f"{path}: cannot read this site's private key: {error.strerror}; {REMEDY}") from None
    except TypeError:
        raise UserError(f"{path}: the key has a passphrase, which cannot be entered at a restart; {REMEDY}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UserError(f"{path}: no private key in OpenSSH format; {REMEDY}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise UserError(f"{path}: no elliptic-curve key on P-384; {REMEDY}")
    return key
