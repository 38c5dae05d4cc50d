"""The messages of secure aggregation (`remind.secagg`), and the section of a task that requests it."""

from typing import Annotated, Literal

from pydantic import Field

from remind.federation.message_statistics import PrivacySpent
from remind.federation.message_types import MOST_EXPERTS, Finite, Group, Message, Name, Natural
from remind.secagg.book import Book
from remind.secagg.keys import Hex, SignedKeys, Slots
from remind.secagg.slot_messages import MaskedHeader, OpenedShares, ShareRequest, Slot


class Prepare(Message):
    """Coordinator → site: the request to publish keys for the run's secure aggregation."""

    kind: Literal["prepare"] = "prepare"
    slots: Slots


class Keys(Message):
    """Site → coordinator: its public keys, signed."""

    kind: Literal["keys"] = "keys"
    keys: SignedKeys


class Deal(Message):
    """Coordinator → site: the keys of all sites, and the request to deal shares of the site's mask secrets."""

    kind: Literal["deal"] = "deal"
    book: Book


class Dealt(Message):
    """Site → coordinator: shares for each site, in boxes that only that site can open."""

    kind: Literal["dealt"] = "dealt"
    boxes: dict[Name, Hex]


class Secure(Message):
    """The section of a task or an examination that requests a masked answer.

    Attributes
    ----------
    observers
        Block → the sites whose answers are summed. Other blocks are not sent.
    patient, whole
        Only in a task: group → the weight of each of its patients, equal at all sites; block → the sum over sites of
        the masses m_{s,k} of the groups that train it.
    plain
        Only in a task of a run whose hospitals share the noise: the weight of a patient in plain averaging, 1/N.
    experts
        Only in an examination: length of a group's expert use.
    """

    slot: Slot
    observers: dict[Annotated[str, Field(max_length=300)], tuple[Name, ...]]
    patient: dict[Group, Finite] = Field(default_factory=dict)
    whole: dict[Annotated[str, Field(max_length=300)], Finite] = Field(default_factory=dict)
    plain: Annotated[float, Field(ge=0, le=1)] = 0.0
    experts: Annotated[int, Field(ge=0, le=MOST_EXPERTS)] = 0


class MaskedAnswer(Message):
    """Site → coordinator: the masked blocks are in the buffer. Only their sum over sites has a meaning.

    Attributes
    ----------
    privacy
        As in `Report`.
    """

    kind: Literal["masked"] = "masked"
    round: Natural
    seconds: Finite
    beside: MaskedHeader
    privacy: PrivacySpent | None = None


class Unmask(Message):
    """Coordinator → site: the sites that answered, and the request for shares."""

    kind: Literal["unmask"] = "unmask"
    ask: ShareRequest


class Unmasked(Message):
    """Site → coordinator: the requested shares."""

    kind: Literal["unmasked"] = "unmasked"
    opened: OpenedShares
