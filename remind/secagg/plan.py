"""The plan of a slot for one site: its blocks, and the sites over which each block is summed.

Masks are derived from the plan. If a coordinator sends different plans to two sites, their masks do not cancel and
their answers are noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from remind.secagg.book import Book
from remind.secagg.derivation import digest
from remind.secagg.limits import FEWEST, RefusedError


@dataclass(frozen=True)
class Part:
    """A block of the plan.

    Attributes
    ----------
    observers
        The sites that send the block, ascending, including sites that do not answer.
    digest
        Digest of everything that these sites must have received identically: the block, the weight of its patients.
    """

    observers: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Plan:
    """The blocks of one site in one slot.

    Attributes
    ----------
    common
        Digest of everything that all sites must have received identically: round, stage.
    question
        Digest of everything that this site received. Its own masks belong to this question.
    """

    slot: int
    common: str
    question: str
    parts: Mapping[str, Part]

    def pair(self, other: str) -> str:
        """Return the digest of everything that two sites must have received identically; their masks depend on it."""
        shared = [(name, part) for name, part in sorted(self.parts.items()) if other in part.observers]
        texts = [text for name, part in shared for text in (name, part.digest, ",".join(part.observers))]
        return digest("pair", self.slot, self.common, *texts)

    def require_valid(self, book: Book, site: str) -> None:
        """Refuse blocks that would be summed over too few sites, or over sites that are not in the book.

        Raises
        ------
        RefusedError
            The text names the block.
        """
        if not 0 <= self.slot < book.by_name[site].slots:
            raise RefusedError(f"there are no keys for slot {self.slot}")
        for name, part in self.parts.items():
            if list(part.observers) != sorted(set(part.observers)) or not set(part.observers) <= set(book.names):
                raise RefusedError(f"{name}: its list of sites is not sorted, or names a site that is not in this run")
            if site not in part.observers:
                raise RefusedError(f"{name}: this site is not among those that send it")
            if len(part.observers) < FEWEST:
                raise RefusedError(f"{name}: {len(part.observers)} sites send it; at least {FEWEST} must")
