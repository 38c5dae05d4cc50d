"""A site's side: publishes keys, masks blocks, opens shares. It refuses everything that could reveal more than sums.

A refusal changes no state. Each decision that must not be reversed, such as the question that a slot answered or the
survivors of a slot, is stored before the answer is returned.
"""

import json
from collections.abc import Callable, Mapping
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import Field

from remind.secagg.book import Book, require_valid
from remind.secagg.codec import Payload
from remind.secagg.keys import Hex, Hex32, Secrets, SignedKeys, Typed, mask_key
from remind.secagg.limits import RefusedError, min_survivors
from remind.secagg.pairs import add_pair, add_self, commitment
from remind.secagg.plan import Plan
from remind.secagg.sealing import OVERHEAD, seal, shared_secret, unseal
from remind.secagg.shares import SECRET, split
from remind.secagg.slot_messages import MaskedHeader, OpenedShares, ShareRequest

BOX = SECRET + OVERHEAD  # size in bytes of the box of one slot in a deal


class SiteState(Typed):
    """The state of a site in a run.

    Attributes
    ----------
    deal
        Site → its boxes, one per slot, with its shares of this site's mask secrets.
    asked
        Slot → the question for which it was used.
    survivors
        Slot → the survivors that were named when this site opened its shares.
    """

    root: Hex32
    keys: SignedKeys
    book: Book | None = None
    deal: dict[str, Hex] = Field(default_factory=dict)
    asked: dict[int, str] = Field(default_factory=dict)
    survivors: dict[int, tuple[str, ...]] = Field(default_factory=dict)


class SecureSite:
    """One site in one run.

    Parameters
    ----------
    keep
        Function that stores a state. When it returns, the state must survive a crash.
    """

    def __init__(self, state: SiteState, keep: Callable[[SiteState], None] = lambda state: None) -> None:
        self.state, self._keep = state, keep
        self._secrets = Secrets(bytes.fromhex(state.root))

    @classmethod
    def create(
        cls,
        run: str,
        site: str,
        terms: str,
        slots: int,
        key: ec.EllipticCurvePrivateKey,
        keep: Callable[[SiteState], None] = lambda state: None,
    ) -> Self:
        """Generate the keys for a run. `terms` is the digest of its settings; `key` is the enrolled key of the site."""
        secrets = Secrets.generate()
        state = SiteState(root=secrets.root.hex(), keys=secrets.publish(run, site, terms, slots, key))
        keep(state)
        return cls(state, keep)

    @property
    def name(self) -> str:
        """Name of this site."""
        return self.state.keys.site

    @property
    def sites(self) -> int:
        """How many sites the accepted book has."""
        return len(self._book().sites)

    def deal(self, book: Book, roster: Mapping[str, str] | None) -> dict[str, str]:
        """Accept the book; return site → boxes with its shares of this site's mask secrets, as hex.

        Raises
        ------
        RefusedError
            The book is not valid (`require_valid`), or differs from the book that was accepted before.
        """
        if self.state.book is not None:
            if book != self.state.book:
                raise RefusedError("this site accepted another key book for this run before")
            return dict(self.state.deal)
        require_valid(book, self.state.keys, roster)
        shares = [
            split(self._secrets.mask_secret(slot), book.threshold, len(book.sites))
            for slot in range(self.state.keys.slots)
        ]
        found = {}
        for position, other in enumerate(book.names):
            secret = self._channel(book, other)
            boxes = [
                seal(secret, (book.digest, "mask secret", slot, self.name, other), of_slot[position])
                for slot, of_slot in enumerate(shares)
            ]
            found[other] = b"".join(boxes).hex()
        self._update(book=book, deal=found)
        return found

    def mask(self, plan: Plan, payloads: Mapping[str, Payload]) -> tuple[MaskedHeader, dict[str, Payload]]:
        """Return the header and the masked blocks.

        Raises
        ------
        RefusedError
            The plan is not valid, or the slot was used for another question.
        """
        book = self._book()
        plan.require_valid(book, self.name)
        if plan.parts.keys() != payloads.keys():
            raise ValueError("the blocks are not those of the plan")
        if self.state.asked.get(plan.slot, plan.question) != plan.question:
            raise RefusedError(f"the keys of slot {plan.slot} were used for another question")
        self._update(asked={**self.state.asked, plan.slot: plan.question})
        private = mask_key(self._secrets.mask_secret(plan.slot))
        agreements = {
            other: shared_secret(private, book.by_name[other].mask(plan.slot))
            for other in {name for part in plan.parts.values() for name in part.observers} - {self.name}
        }
        seeds, masked = {}, {}
        for block, payload in sorted(payloads.items()):
            seeds[block] = self._secrets.self_seed(plan.slot, plan.question, block)
            masked[block] = payload.copy()
            add_self(masked[block], seeds[block], undo=False)
            for other in plan.parts[block].observers:
                if other != self.name:
                    add_pair(masked[block], agreements[other], book, plan, block, self.name, other, undo=False)
        beside = MaskedHeader(
            slot=plan.slot,
            lengths={block: payload.lengths for block, payload in masked.items()},
            commitments={block: commitment(seed, block) for block, seed in seeds.items()},
            boxes=self._boxes(book, plan, seeds),
        )
        return beside, masked

    def _boxes(self, book: Book, plan: Plan, seeds: Mapping[str, bytes]) -> dict[str, str]:
        shares = {block: split(seed, book.threshold, len(book.sites)) for block, seed in seeds.items()}
        found = {}
        for position, other in enumerate(book.names):
            content = {b: [len(plan.parts[b].observers), of_site[position].hex()] for b, of_site in shares.items()}
            context = (book.digest, "self seeds", plan.slot, self.name, other)
            found[other] = seal(self._channel(book, other), context, json.dumps(content).encode()).hex()
        return found

    def open(self, ask: ShareRequest) -> OpenedShares:
        """Return this site's shares of the survivors' own masks, and of the requested mask secrets of other sites.

        Raises
        ------
        RefusedError
            There are too few survivors, both kinds of share of one site are requested, or the survivors differ from
            those of an earlier request.
        """
        book = self._book()
        survivors = set(ask.survivors)
        if list(ask.survivors) != sorted(survivors) or not survivors <= set(book.names):
            raise RefusedError("the list of survivors is not sorted, or names a site that is not in this run")
        if ask.slot not in self.state.asked or self.name not in survivors:
            raise RefusedError(f"this site did not answer in slot {ask.slot}")
        if len(survivors) < book.threshold:
            raise RefusedError(
                f"{len(survivors)} of {len(book.names)} sites answered; unmasking a sum needs {book.threshold}"
            )
        if ask.seeds.keys() & ask.secrets.keys():
            raise RefusedError("both kinds of share of one site are requested")
        if ask.seeds.keys() != survivors or not ask.secrets.keys() <= set(book.names) - survivors:
            raise RefusedError("the request does not have one box of each survivor, or has one of an unknown site")
        if self.state.survivors.get(ask.slot, ask.survivors) != ask.survivors:
            raise RefusedError(f"shares of slot {ask.slot} were opened before, for other survivors")
        self._update(survivors={**self.state.survivors, ask.slot: ask.survivors})
        given = {name: self._seeds(book, ask.slot, name, box) for name, box in ask.seeds.items()}
        secrets = {name: self._secret(book, ask.slot, name, box) for name, box in ask.secrets.items()}
        seeds, withheld = _by_block(
            {name: found for name, found in given.items() if found is not None}, len(book.names)
        )
        return OpenedShares(
            slot=ask.slot,
            seeds=seeds,
            secrets={name: share.hex() for name, share in secrets.items() if share is not None},
            withheld=withheld,
            unreadable=tuple(sorted(name for name, found in {**given, **secrets}.items() if found is None)),
        )

    def _seeds(self, book: Book, slot: int, sender: str, box: str) -> dict[str, tuple[int, str]] | None:
        """Open a box: block → number of its observers and this site's share of its seed; None if it is unreadable."""
        clear = unseal(self._channel(book, sender), (book.digest, "self seeds", slot, sender, self.name), _bytes(box))
        try:
            found = {} if clear is None else json.loads(clear)
            if clear is None or any(len(bytes.fromhex(share)) != SECRET for _, share in found.values()):
                return None
            return {str(block): (int(observers), share) for block, (observers, share) in found.items()}
        except (ValueError, TypeError, AttributeError):
            return None

    def _secret(self, book: Book, slot: int, sender: str, box: str) -> bytes | None:
        context = (book.digest, "mask secret", slot, sender, self.name)
        clear = unseal(self._channel(book, sender), context, _bytes(box))
        return clear if clear is not None and len(clear) == SECRET else None

    def _channel(self, book: Book, other: str) -> bytes:
        return shared_secret(self._secrets.channel(), bytes.fromhex(book.by_name[other].channel))

    def _book(self) -> Book:
        if self.state.book is None:
            raise RefusedError("the keys of this run have not been dealt")
        return self.state.book

    def _update(self, **changes: object) -> None:
        state = self.state.model_copy(update=changes)
        if state != self.state:
            self._keep(state)
        self.state = state


def _by_block(
    given: Mapping[str, Mapping[str, tuple[int, str]]], sites: int
) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Return the shares of the blocks that enough survivors sent, and the names of the other blocks.

    The senders of a block are known from the boxes, which the coordinator can neither read nor forge.
    """
    seeds: dict[str, dict[str, str]] = {}
    withheld = []
    for block in sorted({block for shares in given.values() for block in shares}):
        senders = {name: shares[block] for name, shares in sorted(given.items()) if block in shares}
        claimed = {observers for observers, _ in senders.values()}
        if len(claimed) > 1 or len(senders) < min_survivors(max(claimed), sites):
            withheld.append(block)
        else:
            seeds[block] = {name: share for name, (_, share) in senders.items()}
    return seeds, tuple(withheld)


def _bytes(box: str) -> bytes:
    try:
        return bytes.fromhex(box)
    except ValueError:
        return b""
