"""What goes between a site and the coordinator in a slot."""

from typing import Annotated

from pydantic import Field

from remind.secagg.keys import MOST_SLOTS, Hex, Hex32, Name, Typed

Block = Annotated[str, Field(min_length=1, max_length=300)]
Slot = Annotated[int, Field(ge=0, lt=MOST_SLOTS)]
Length = Annotated[int, Field(ge=0, le=2**40)]
Share = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Masked(Typed):
    """Site → coordinator: what lies beside its masked blocks.

    Attributes
    ----------
    lengths
        Block → number of tensor words and of statistics; the buffer holds the blocks in this order (by name).
    commitments
        Block → `committed` of the seed of the site's own mask.
    boxes
        Site → its shares of these seeds.
    """

    slot: Slot
    lengths: dict[Block, tuple[Length, Length]]
    commitments: dict[Block, Hex32]
    boxes: dict[Name, Hex]


class Ask(Typed):
    """Coordinator → site: who answered in a slot; open your shares, so that the sum can be read.

    Attributes
    ----------
    survivors
        The sites that answered, ascending; all others of the book did not.
    seeds
        Survivor → the box in which it gave this site shares of the seeds of its own masks.
    secrets
        Site that did not answer → the box with this site's share of its mask secret.
    """

    slot: Slot
    survivors: tuple[Name, ...]
    seeds: dict[Name, Hex]
    secrets: dict[Name, Hex]


class Opened(Typed):
    """Site → coordinator: its shares.

    Attributes
    ----------
    seeds
        Block → survivor → share.
    secrets
        Site that did not answer → share.
    withheld
        Blocks that too few sites sent.
    unreadable
        Sites whose box could not be opened.
    """

    slot: Slot
    seeds: dict[Block, dict[Name, Share]]
    secrets: dict[Name, Share]
    withheld: tuple[Block, ...] = ()
    unreadable: tuple[Name, ...] = ()
