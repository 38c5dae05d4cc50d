"""A site's keys for one run. They are derived from one random secret, published once, and signed with its enrolled key.

A *slot* is one aggregation: a round or an examination. Each slot has its own mask key, which is used for only one
question.
"""

import base64
import binascii
import json
import secrets
from dataclasses import dataclass
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field

from remind.consortium.enrolment import load_public_key, public_key_text
from remind.errors import UserError
from remind.secagg.derivation import PROTOCOL, derive
from remind.secagg.limits import RefusedError
from remind.secagg.shares import SECRET

KEY = 32  # bytes of a public key
MOST_SLOTS = 20_000
Name = Annotated[str, Field(min_length=1, max_length=200)]
Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Slots = Annotated[int, Field(ge=1, le=MOST_SLOTS)]


class Typed(BaseModel):
    """Base class of the exchanged records: frozen, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SignedKeys(Typed):
    """The public keys that a site publishes before the first round.

    Attributes
    ----------
    run, terms
        The run's identity, and a digest of its settings. The keys are valid only for this run.
    public_key
        The enrolled key that made the signature, in OpenSSH format.
    channel
        X25519 key that encrypts boxes to this site.
    masks
        X25519 mask keys of all slots, concatenated.
    signature
        ECDSA with SHA-384 (DER, base64) over the canonical JSON of all other fields.
    """

    run: Name
    site: Name
    terms: Hex32
    slots: Slots
    public_key: Annotated[str, Field(max_length=400)]
    channel: Hex32
    masks: Hex
    signature: Annotated[str, Field(max_length=400)]

    def mask(self, slot: int) -> bytes:
        """Return the public mask key of a slot."""
        return bytes.fromhex(self.masks[2 * KEY * slot : 2 * KEY * (slot + 1)])

    def all_keys(self) -> list[str]:
        """Return all X25519 keys, as hex."""
        return [self.channel, *(self.mask(slot).hex() for slot in range(self.slots))]

    def require_signed(self) -> None:
        """Refuse keys that the holder of `public_key` did not sign.

        Raises
        ------
        RefusedError
            The signature is not valid. The text names the site.
        """
        if len(self.masks) != 2 * KEY * self.slots:
            raise RefusedError(f"{self.site} did not publish one mask key for each of the {self.slots} slots")
        try:
            key = load_public_key(self.public_key)
            key.verify(base64.b64decode(self.signature, validate=True), _signed(self), ec.ECDSA(hashes.SHA384()))
        except (InvalidSignature, binascii.Error, ValueError, UserError):
            raise RefusedError(f"the keys of {self.site} are not signed by its enrolled key") from None


@dataclass(frozen=True)
class Secrets:
    """All secrets of a site for one run. They are derived from `root`, 32 random bytes that stay at the site."""

    root: bytes

    @classmethod
    def generate(cls) -> "Secrets":
        """Draw new secrets."""
        return cls(secrets.token_bytes(32))

    def channel(self) -> X25519PrivateKey:
        """Return the private key that opens boxes to this site."""
        return X25519PrivateKey.from_private_bytes(derive(self.root, "channel"))

    def mask_secret(self, slot: int) -> bytes:
        """Return the secret of the slot's mask key, of which every site holds a share."""
        return derive(self.root, "mask secret", slot, length=SECRET)

    def self_seed(self, slot: int, question: str, block: str) -> bytes:
        """Return the seed of the site's own mask of a block; each question has its own."""
        return derive(self.root, "self mask", slot, question, block, length=SECRET)

    def publish(self, run: str, site: str, terms: str, slots: int, key: ec.EllipticCurvePrivateKey) -> SignedKeys:
        """Return the public keys, signed with `key`."""
        masks = "".join(public_mask(self.mask_secret(slot)).hex() for slot in range(slots))
        unsigned = SignedKeys(
            run=run,
            site=site,
            terms=terms,
            slots=slots,
            public_key=public_key_text(key.public_key()),
            channel=self.channel().public_key().public_bytes_raw().hex(),
            masks=masks,
            signature="",
        )
        signature = key.sign(_signed(unsigned), ec.ECDSA(hashes.SHA384()))
        return unsigned.model_copy(update={"signature": base64.b64encode(signature).decode()})


def mask_key(secret: bytes) -> X25519PrivateKey:
    """Derive the mask key of a slot from its secret."""
    return X25519PrivateKey.from_private_bytes(derive(secret, "mask key"))


def public_mask(secret: bytes) -> bytes:
    """Return the public part of the mask key."""
    return mask_key(secret).public_key().public_bytes_raw()


def _signed(keys: SignedKeys) -> bytes:
    fields = {"protocol": PROTOCOL, **keys.model_dump(exclude={"signature"})}
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
