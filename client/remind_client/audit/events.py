"""Events of the audit log. Each type is closed: no field can hold a patient's value.

Counts are those that left the site, after suppression. Text that came from outside is cut to length and stripped of
control characters.
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
    """Base class of all events: frozen, no extra fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Started(Event):
    """The site came up."""

    event: Literal["started"] = "started"
    site: Words
    version: Words
    policy: Digest


class Stopped(Event):
    """The site stopped normally."""

    event: Literal["stopped"] = "stopped"
    reason: Words


class PolicyChanged(Event):
    """The policy changed since the log last recorded it; `before` is empty the first time."""

    event: Literal["policy"] = "policy"
    before: MaybeDigest
    after: Digest


class Approved(Event):
    """Somebody at the site approved run configs with this fingerprint, or withdrew the approval."""

    event: Literal["approved", "withdrawn"] = "approved"
    configuration: Digest


class _OfRun(Event):
    """`run`: its number at Flower; `of`: its identity, where that is not the number, as of a run that was resumed."""

    run: RunId
    of: Words = ""
    request: Words
    round: int | None = None


class Asked(_OfRun):
    """A message arrived: its run, its bundle, its configuration and what it requests."""

    event: Literal["asked"] = "asked"
    app: Words
    bundle: Digest
    configuration: MaybeDigest = ""


class SentTensor(Event):
    """A tensor that left the site: its name and size."""

    name: Words
    bytes: int


class Answered(_OfRun):
    """An answer left the site.

    Its tensors, and per part (counts, train, validation, test) the patients of each group in it.
    """

    event: Literal["answered"] = "answered"
    answer: Words
    tensors: tuple[SentTensor, ...] = ()
    groups: dict[str, dict[int, int]] = {}


class Refused(_OfRun):
    """A request was refused, with the reason that left the site."""

    event: Literal["refused"] = "refused"
    reason: Words


class SpentOn(Event):
    """A release for which privacy was spent; `part` of the split whose patients it is about."""

    part: Words
    what: Words
    noise: float
    rate: float
    steps: int
    delta: float = 0.0
    own: float | None = None  # noise of this site alone, where others share it


class Spent(Event):
    """Privacy was spent for a question, before it was answered: `numbers` are rows of the privacy ledger."""

    event: Literal["spent"] = "spent"
    run: Words
    round: int | None = None
    numbers: tuple[int, ...]
    releases: tuple[SpentOn, ...]


class Serving(Event):
    """A model came into service: `remind-site serve` answers with it from now on."""

    event: Literal["serving"] = "serving"
    source: Words
    site: Words
    round: int
    fingerprint: Digest


class AdaptedModel(Event):
    """A model was adapted to this hospital's patients (`remind-site adapt`); nothing left the site."""

    event: Literal["adapted"] = "adapted"
    name: Words
    model: Words
    fingerprint: Digest
    patients: int


class Predicted(Event):
    """A request for predictions was answered: how many patients it had, and how many of them got none."""

    event: Literal["predicted"] = "predicted"
    round: int
    patients: int
    refused: int


class ExportedModel(Event):
    """The hospital exported its own model, unencrypted: the run, and whether with encoders and its name."""

    event: Literal["exported"] = "exported"
    source: Words
    encoders: bool
    ranges: bool
    named: bool


class Recovered(Event):
    """The last line was incomplete, after a crash or a truncation. Records the size and hash of the incomplete line."""

    event: Literal["recovered"] = "recovered"
    bytes: int
    sha256: Digest


class Rotated(Event):
    """The first entry of a new file; it continues the chain."""

    event: Literal["rotated"] = "rotated"
    file: Words
