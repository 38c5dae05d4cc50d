"""What is aggregated in a slot, as one site was told: its blocks, and among whom each is summed.

Sites that were told different things share no mask: a lie turns the answer of those who were lied to into noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from remind.secagg.book import Book
from remind.secagg.derivation import digest
from remind.secagg.limits import FEWEST, RefusedError


@dataclass(frozen=True)
class Part:
    """A block.

    Attributes
    ----------
    observers
        The sites that send it, ascending: also those that do not answer.
    digest
        Of all that these sites must have been told alike: the block as received, the weight of its patients.
    """

    observers: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Plan:
    """The blocks of a site in a slot.

    Attributes
    ----------
    common
        Digest of what all sites must have been told alike: round, stage.
    question
        Digest of all that this site was told. Its own masks belong to this question.
    """

    slot: int
    common: str
    question: str
    parts: Mapping[str, Part]

    def pair(self, other: str) -> str:
        """Digest of all that this site and another one must have been told alike: it is in every mask of the two."""
        shared = [(name, part) for name, part in sorted(self.parts.items()) if other in part.observers]
        texts = [text for name, part in shared for text in (name, part.digest, ",".join(part.observers))]
        return digest("pair", self.slot, self.common, *texts)

    def require_valid(self, book: Book, site: str) -> None:
        """Refuse blocks that would be summed over too few sites, or over others than those of the book.

        Raises
        ------
        RefusedError
            With the block.
        """
        if not 0 <= self.slot < book.by_name[site].slots:
            raise RefusedError(f"there are no keys for slot {self.slot}")
        for name, part in self.parts.items():
            if list(part.observers) != sorted(set(part.observers)) or not set(part.observers) <= set(book.names):
                raise RefusedError(f"{name}: its list of sites is not one of sites of this run, in order")
            if site not in part.observers:
                raise RefusedError(f"{name}: this site is not among those that send it")
            if len(part.observers) < FEWEST:
                raise RefusedError(f"{name}: {len(part.observers)} sites; a sum over fewer than {FEWEST} is not sent")
