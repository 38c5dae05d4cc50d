"""The enrolment request, by which a hospital asks a consortium to admit its key. Pure functions, used by both sides.

The hospital makes its key pair, signs the request with it and sends the text, for instance by mail. The signature
proves that the sender holds the private key, and that nothing was changed on the way. It cannot prove *who* the sender
is: to check that, the two sides read the key's fingerprint to each other on the telephone.

One JSON object. ``signature`` is ECDSA with SHA-384 (DER, base64) over the canonical form of all other fields: keys
sorted, no spaces, everything beyond ASCII escaped.
"""

import base64
import binascii
import hashlib
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from remind.errors import UserError, several
from remind.invalid import invalid

LONGEST = 16_384  # characters of a request; a real one has about 600
CLOCK_SKEW = timedelta(minutes=10)  # how far a hospital's clock may be ahead
_HASH = hashes.SHA384()

SLUG = r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"  # it also names a folder
Slug = Annotated[str, StringConstraints(pattern=SLUG)]


def _printable(text: str) -> str:
    """Refuse unprintable text: it will be shown in a coordinator's terminal."""
    if not text.isprintable():
        raise ValueError("only printable characters, on one line")
    return text


class Request(BaseModel):
    """A request whose signature was checked by `verify_request`.

    Attributes
    ----------
    location
        Latitude and longitude in degrees (``46.5,6.6``), or free text.
    public_key
        OpenSSH form of a P-384 key, without a comment.
    nonce
        128 random bits; a coordinator accepts each value only once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    consortium: Slug
    site: Slug
    location: Annotated[str, StringConstraints(max_length=200), AfterValidator(_printable)]
    public_key: Annotated[str, StringConstraints(max_length=400)]
    created: AwareDatetime
    nonce: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    signature: str = Field(max_length=400)

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the public key, as ``ssh-keygen -l`` prints it."""
        return fingerprint(self.public_key)


def make_request(
    private_key: ec.EllipticCurvePrivateKey,
    *,
    consortium: str,
    site: str,
    location: str = "",
    created: datetime | None = None,
    nonce: str | None = None,
) -> str:
    """Return the text of a request for `private_key` (P-384), signed with it.

    Raises
    ------
    UserError
        A field is not valid for `Request`, or the key is on another curve.
    """
    fields = {
        "version": 1,
        "consortium": consortium,
        "site": site,
        "location": location,
        "public_key": public_key_text(private_key.public_key()),
        "created": (created or datetime.now(UTC)).isoformat(timespec="seconds"),
        "nonce": nonce or secrets.token_hex(16),
    }
    signature = private_key.sign(_canonical(fields), ec.ECDSA(_HASH))
    signed = fields | {"signature": base64.b64encode(signature).decode()}
    _validate(signed)
    return json.dumps(signed, indent=2) + "\n"


def verify_request(text: str) -> Request:
    """Return the request in a text after checking its signature.

    The coordinator checks whether it is fresh, new and meant for this consortium.

    Raises
    ------
    UserError
        The text is not a request, or was not signed by the key it names. The error gives reason and remedy.
    """
    if len(text) > LONGEST:
        raise UserError(f"this is not an enrolment request: more than {LONGEST} characters")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(
            "this is not an enrolment request: it is not JSON; ask the hospital for the file again"
        ) from None
    if not isinstance(fields, dict):
        raise UserError(
            "this is not an enrolment request: it is not a JSON object; ask the hospital for the file again"
        )
    request = _validate(fields)
    key = load_public_key(request.public_key)
    unsigned = {name: value for name, value in fields.items() if name != "signature"}
    try:
        key.verify(base64.b64decode(request.signature, validate=True), _canonical(unsigned), ec.ECDSA(_HASH))
    except (InvalidSignature, binascii.Error, ValueError):
        raise UserError(
            f"signature: it is not that of the key in the request of site {request.site!r}: the request was changed on "
            "its way, or its sender does not hold the private key; ask the hospital for a new one"
        ) from None
    return request


def require_fresh(request: Request, now: datetime, max_age: timedelta) -> None:
    """Refuse a request that was made too long ago, or in the future.

    Raises
    ------
    UserError
        With the times and the remedy.
    """
    age = now - request.created
    if age > max_age:
        raise UserError(
            f"created: the request is of {request.created:%Y-%m-%d %H:%M %Z}, more than {max_age.days} day(s) ago; ask "
            "the hospital for a new one"
        )
    if age < -CLOCK_SKEW:
        raise UserError(
            f"created: the request is of {request.created:%Y-%m-%d %H:%M %Z}, which is in the future; set the clocks "
            "of the hospital and of this machine, then ask for a new one"
        )


def public_key_text(key: ec.EllipticCurvePublicKey) -> str:
    """Return the OpenSSH form of a P-384 public key, without a comment."""
    if not isinstance(key.curve, ec.SECP384R1):
        raise UserError(f"public_key: the key is on the curve {key.curve.name}; make one on P-384 (secp384r1)")
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def load_public_key(text: str) -> ec.EllipticCurvePublicKey:
    """Load the P-384 key of an OpenSSH text. Only the spelling of `public_key_text` is accepted: one key, one text."""
    remedy = "make the key on P-384 with remind-site, or: ssh-keygen -t ecdsa -b 384"
    try:
        key = serialization.load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise UserError(f"public_key: it cannot be read as an OpenSSH public key; {remedy}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UserError(f"public_key: it is not an elliptic-curve key; {remedy}")
    if public_key_text(key) != text:
        raise UserError("public_key: no text may follow the key, not even a comment")
    return key


def fingerprint(public_key: str) -> str:
    """Return ``SHA256:…`` of an OpenSSH public key, as ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(base64.b64decode(public_key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _validate(fields: dict[str, Any]) -> Request:
    try:
        return Request.model_validate(fields)
    except ValidationError as error:
        raise several("the enrolment request is not valid:", invalid(error, Request, secret=True)) from None
