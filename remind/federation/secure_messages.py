"""The messages of secure aggregation (`remind.secagg`), and what a task says of it."""

from typing import Annotated, Literal

from pydantic import Field

from remind.federation.message_types import MOST_EXPERTS, Finite, Group, Message, Name, Natural
from remind.secagg.book import Book
from remind.secagg.exchanged import Ask, Masked, Opened, Slot
from remind.secagg.keys import Hex, SignedKeys, Slots


class Prepare(Message):
    """Coordinator → site: publish your keys for the run's secure aggregation."""

    kind: Literal["prepare"] = "prepare"
    slots: Slots


class Keys(Message):
    """Site → coordinator: its public keys, signed."""

    kind: Literal["keys"] = "keys"
    keys: SignedKeys


class Deal(Message):
    """Coordinator → site: everybody's keys; deal shares of your mask secrets."""

    kind: Literal["deal"] = "deal"
    book: Book


class Dealt(Message):
    """Site → coordinator: for each site its shares, in boxes that only that site opens."""

    kind: Literal["dealt"] = "dealt"
    boxes: dict[Name, Hex]


class Secure(Message):
    """Of a task or an examination whose answer goes under masks.

    Attributes
    ----------
    observers
        Block → the sites whose answers are summed. Blocks that are not named are not sent.
    patient, whole
        Of a task: group → the weight of each of its patients, at all sites; block → Σ_s of the objective's parts that
        reach it.
    experts
        Of an examination: length of a group's use of experts.
    """

    slot: Slot
    observers: dict[Annotated[str, Field(max_length=300)], tuple[Name, ...]]
    patient: dict[Group, Finite] = Field(default_factory=dict)
    whole: dict[Annotated[str, Field(max_length=300)], Finite] = Field(default_factory=dict)
    experts: Annotated[int, Field(ge=0, le=MOST_EXPERTS)] = 0


class MaskedAnswer(Message):
    """Site → coordinator: the blocks in the buffer are masked; they mean something only when summed."""

    kind: Literal["masked"] = "masked"
    round: Natural
    seconds: Finite
    beside: Masked


class Unmask(Message):
    """Coordinator → site: who answered; open your shares."""

    kind: Literal["unmask"] = "unmask"
    ask: Ask


class Unmasked(Message):
    """Site → coordinator: its shares."""

    kind: Literal["unmasked"] = "unmasked"
    opened: Opened
