"""The content of the messages between a site and the coordinator in one slot."""

from typing import Annotated

from pydantic import Field

from remind.secagg.keys import MOST_SLOTS, Hex, Hex32, Name, Typed

Block = Annotated[str, Field(min_length=1, max_length=300)]
Slot = Annotated[int, Field(ge=0, lt=MOST_SLOTS)]
Length = Annotated[int, Field(ge=0, le=2**40)]
Share = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class MaskedHeader(Typed):
    """Site → coordinator: the description of its masked blocks, and the shares with which they can be unmasked.

    Attributes
    ----------
    lengths
        Block → number of tensor words and number of statistics. The buffer holds the blocks sorted by name.
    commitments
        Block → `commitment` to the seed of the site's own mask.
    boxes
        Site → the box with its shares of these seeds.
    """

    slot: Slot
    lengths: dict[Block, tuple[Length, Length]]
    commitments: dict[Block, Hex32]
    boxes: dict[Name, Hex]


class ShareRequest(Typed):
    """Coordinator → site: the list of sites that answered, and the boxes that the site must open to unmask the sum.

    Attributes
    ----------
    survivors
        The sites that answered, ascending. All other sites of the book did not answer.
    seeds
        Survivor → the box with this site's shares of the seeds of the survivor's own masks.
    secrets
        Site that did not answer → the box with this site's share of its mask secret.
    """

    slot: Slot
    survivors: tuple[Name, ...]
    seeds: dict[Name, Hex]
    secrets: dict[Name, Hex]


class OpenedShares(Typed):
    """Site → coordinator: the shares from the boxes that it opened.

    Attributes
    ----------
    seeds
        Block → survivor → share of the seed of the survivor's own mask.
    secrets
        Site that did not answer → share of its mask secret.
    withheld
        Blocks that too few sites sent. Their shares are not sent.
    unreadable
        Sites whose box could not be opened.
    """

    slot: Slot
    seeds: dict[Block, dict[Name, Share]]
    secrets: dict[Name, Share]
    withheld: tuple[Block, ...] = ()
    unreadable: tuple[Name, ...] = ()
