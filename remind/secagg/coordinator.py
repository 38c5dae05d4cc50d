"""The coordinator's side of one slot: adds masked blocks as they arrive, and removes the masks from the sum."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from remind.secagg.book import Book
from remind.secagg.codec import Payload
from remind.secagg.keys import mask_key, public_mask
from remind.secagg.limits import FEWEST
from remind.secagg.pairs import add_pair, add_self, commitment
from remind.secagg.plan import Plan
from remind.secagg.sealing import shared_secret
from remind.secagg.shares import SharesError, combine
from remind.secagg.site import BOX
from remind.secagg.slot_messages import MaskedHeader, OpenedShares, ShareRequest

Lengths = Mapping[str, tuple[int, int]]
Deals = Mapping[str, Mapping[str, str]]  # sender → reader → boxes of all slots


class TooFewError(ValueError):
    """Too few sites answered or sent their shares, so no sum can be unmasked."""


def deal_problem(book: Book, deal: Mapping[str, str]) -> str:
    """Return why a site's deal is not valid; empty if it is valid."""
    slots = book.sites[0].slots
    if set(deal) != set(book.names) or any(len(boxes) != 2 * BOX * slots for boxes in deal.values()):
        return f"its boxes are not {slots} of {BOX} bytes for each site"
    return ""


@dataclass
class SecureSum:
    """The masked sum of one slot.

    Attributes
    ----------
    deals
        The deals of the sites that dealt. A site of the book without a deal must be in no plan: nobody has shares of
        its mask secret.
    plans
        Site → the plan that it received, or would have received if it were connected.
    lengths
        Block → its lengths (`Payload.lengths`).
    """

    book: Book
    deals: Deals
    plans: Mapping[str, Plan]
    lengths: Lengths
    _sums: dict[str, Payload] = field(default_factory=dict)
    _beside: dict[str, MaskedHeader] = field(default_factory=dict)
    _opened: dict[str, OpenedShares] = field(default_factory=dict)

    @property
    def slot(self) -> int:
        """Number of the slot."""
        return next(iter(self.plans.values())).slot

    @property
    def survivors(self) -> tuple[str, ...]:
        """Names of the sites whose blocks were added."""
        return tuple(sorted(self._beside))

    def problem(self, site: str, beside: MaskedHeader) -> str:
        """Return why a site's answer is not valid; empty if it can be added."""
        parts = self.plans[site].parts
        if beside.slot != self.slot:
            return f"answers slot {beside.slot}, expected {self.slot}"
        if beside.lengths != {block: tuple(self.lengths[block]) for block in parts}:
            return "its blocks are not the requested ones, or have other lengths"
        if beside.commitments.keys() != parts.keys() or beside.boxes.keys() != set(self.book.names):
            return "it did not send one box of shares for each site"
        return ""

    def add(self, site: str, beside: MaskedHeader, payloads: Mapping[str, Payload]) -> None:
        """Add the masked blocks of a site after `problem` accepted them. Each site can be added once."""
        if site in self._beside:
            raise ValueError(f"{site} has been added before")
        self._beside[site] = beside
        for block, payload in payloads.items():
            if block not in self._sums:
                self._sums[block] = Payload.zeros(payload.lengths)
            self._sums[block].add(payload)

    def share_requests(self) -> dict[str, ShareRequest]:
        """Return the request for shares to each survivor.

        Raises
        ------
        TooFewError
            There are fewer survivors than the threshold.
        """
        if len(self.survivors) < self.book.threshold:
            raise TooFewError(
                f"{len(self.survivors)} of {len(self.book.names)} sites answered; unmasking a sum needs "
                f"{self.book.threshold}"
            )
        gone = [name for name in sorted(self.deals) if name not in self._beside]
        box = slice(2 * self.slot * BOX, 2 * (self.slot + 1) * BOX)
        return {
            site: ShareRequest(
                slot=self.slot,
                survivors=self.survivors,
                seeds={name: self._beside[name].boxes[site] for name in self.survivors},
                secrets={name: self.deals[name][site][box] for name in gone},
            )
            for site in self.survivors
        }

    def add_shares(self, site: str, opened: OpenedShares) -> None:
        """Store the shares that a survivor opened."""
        if site in self._beside and opened.slot == self.slot:
            self._opened[site] = opened

    def result(self) -> tuple[dict[str, Payload], dict[str, str]]:
        """Return the unmasked sums by block, and for each other block the reason why it could not be unmasked.

        Raises
        ------
        TooFewError
            Too few survivors sent their shares.
        """
        if len(self._opened) < self.book.threshold:
            raise TooFewError(
                f"{len(self._opened)} of {len(self.survivors)} sites sent their shares; unmasking needs "
                f"{self.book.threshold}"
            )
        secrets = {name: self._secret(name) for name in self.book.names if name not in self._beside}
        sums, withheld = {}, {}
        for block in sorted(self._sums):
            try:
                sums[block] = self._unmasked(block, secrets)
            except SharesError as error:
                withheld[block] = str(error)
        return sums, withheld

    def _unmasked(self, block: str, secrets: Mapping[str, bytes | None]) -> Payload:
        senders = [site for site in self.survivors if block in self.plans[site].parts]
        refusing = [site for site, opened in self._opened.items() if block in opened.withheld]
        if len(refusing) > len(self._opened) - self.book.threshold:
            raise SharesError(_refused(len(senders), len(refusing)))
        seeds = {site: self._seed(site, block) for site in senders}
        total = self._sums[block].copy()
        for site in senders:
            add_self(total, seeds[site], undo=True)
            for other in self.plans[site].parts[block].observers:
                if other not in self._beside:
                    if (secret := secrets[other]) is None:
                        raise SharesError(f"the mask secret of {other} cannot be reconstructed")
                    agreement = shared_secret(mask_key(secret), self.book.by_name[site].mask(self.slot))
                    add_pair(total, agreement, self.book, self.plans[site], block, site, other, undo=True)
        return total

    def _seed(self, site: str, block: str) -> bytes:
        of_block = {by: opened.seeds.get(block, {}) for by, opened in self._opened.items()}
        shares = {self.book.position(by): bytes.fromhex(s[site]) for by, s in of_block.items() if site in s}
        wanted = self._beside[site].commitments[block]
        return combine(shares, self.book.threshold, lambda seed: commitment(seed, block) == wanted)

    def _secret(self, site: str) -> bytes | None:
        """Reconstruct the mask secret of a site that did not answer; None if its shares are not sufficient."""
        found = {self.book.position(by): o.secrets[site] for by, o in self._opened.items() if site in o.secrets}
        public = self.book.by_name[site].mask(self.slot)
        try:
            shares = {position: bytes.fromhex(share) for position, share in found.items()}
            return combine(shares, self.book.threshold, lambda secret: public_mask(secret) == public)
        except SharesError:
            return None


def _refused(senders: int, refusing: int) -> str:
    """Return why survivors did not open a block: too few sent it, or they were told different lists of observers."""
    if senders < FEWEST:
        return f"only {senders} sites sent it; at least {FEWEST} must send it"
    return f"{refusing} sites do not open it: {senders} sites sent it, too few, or they were told different lists"
