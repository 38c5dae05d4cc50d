"""What an audit log may say. Each type is closed: there is no field in which a patient's value could stand.

Counts are of groups that may be reported, as they left the site: after suppression. Words that came from outside are
cut to length and stripped of control characters.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from remind.quoting import printable

LONGEST = 500  # characters of a stranger's words


def _cut(text: str) -> str:
    return printable(text[:LONGEST])


Words = Annotated[str, AfterValidator(_cut)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MaybeDigest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
RunId = Annotated[str, BeforeValidator(str), Field(pattern=r"^\d{1,20}$")]  # beyond what JSON readers hold exactly


class Event(BaseModel):
    """Base: frozen, closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Started(Event):
    """The site came up."""

    event: Literal["started"] = "started"
    site: Words
    version: Words
    policy: Digest


class Stopped(Event):
    """The site went down in order."""

    event: Literal["stopped"] = "stopped"
    reason: Words


class PolicyChanged(Event):
    """The policy is another than when the log last said; `before` is empty the first time."""

    event: Literal["policy"] = "policy"
    before: MaybeDigest
    after: Digest


class Approved(Event):
    """Somebody at the site approved run configs of this fingerprint, or withdrew that."""

    event: Literal["approved", "withdrawn"] = "approved"
    configuration: Digest


class _OfRun(Event):
    run: RunId
    request: Words
    round: int | None = None


class Asked(_OfRun):
    """A message came: from which run, with which bundle and which configuration, asking for what."""

    event: Literal["asked"] = "asked"
    app: Words
    bundle: Digest
    configuration: MaybeDigest = ""


class SentTensor(Event):
    """A tensor that left: its name and size."""

    name: Words
    bytes: int


class Answered(_OfRun):
    """An answer left: tensors, and per part (counts, train, validation, test) the patients of each group in it."""

    event: Literal["answered"] = "answered"
    answer: Words
    tensors: tuple[SentTensor, ...] = ()
    groups: dict[str, dict[int, int]] = {}


class Refused(_OfRun):
    """A request was refused, with the reason that left the site."""

    event: Literal["refused"] = "refused"
    reason: Words


class Recovered(Event):
    """The last line was unfinished: a crash while writing, or a cut. Size and hash of what stood there."""

    event: Literal["recovered"] = "recovered"
    bytes: int
    sha256: Digest


class Rotated(Event):
    """First entry of a new file; the chain goes on."""

    event: Literal["rotated"] = "rotated"
    file: Words
