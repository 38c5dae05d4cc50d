"""Sites and an honest coordinator in one process, for tests of the protocol; made once for each number of sites."""

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from functools import cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from remind.secagg.book import Book
from remind.secagg.codec import Payload
from remind.secagg.coordinator import SecureSum
from remind.secagg.plan import Part, Plan
from remind.secagg.site import SecureSite

TERMS = "ab" * 32
SLOTS = 4
SHARED = "shared"
Values = Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]  # site → block → tensors, statistics


@cache
def enrolled(site: str) -> ec.EllipticCurvePrivateKey:
    """The key with which a site is enrolled."""
    return ec.generate_private_key(ec.SECP384R1())


class Consortium:
    """Sites with keys and shares dealt, under fresh secrets."""

    def __init__(self, number: int, slots: int = SLOTS, run: str = "run-1", deal: bool = True) -> None:
        self.names = tuple(f"site-{i:02d}" for i in range(number))
        self.sites = {name: SecureSite.create(run, name, TERMS, slots, enrolled(name)) for name in self.names}
        self.book = Book(sites=tuple(self.sites[name].state.keys for name in self.names))
        self.roster = {name: self.sites[name].state.keys.public_key for name in self.names}
        self.deals: dict[str, dict[str, str]] = {}
        if deal:
            self.deals = {name: site.deal(self.book, self.roster) for name, site in self.sites.items()}

    def again(self) -> "Consortium":
        """The same sites, as they were when keys had been dealt: that is most of the work of a test."""
        fresh = copy(self)
        fresh.sites = {name: SecureSite(site.state) for name, site in self.sites.items()}
        fresh.deals = {name: dict(boxes) for name, boxes in self.deals.items()}
        return fresh

    def plan(self, site: str, blocks: Mapping[str, Sequence[str]], slot: int = 0, **told: str) -> Plan:
        """What a site is told honestly, except for `told`: block → digest, `common`, `question`."""
        parts = {b: Part(tuple(o), told.get(b, f"digest of {b}")) for b, o in blocks.items() if site in o}
        return Plan(slot, told.get("common", "round 1"), told.get("question", f"question to {site}"), parts)

    def sum(self, plans: Mapping[str, Plan], values: Values, slot: int = 0) -> SecureSum:
        """An honest coordinator that has answers of nobody yet."""
        shapes = {b: (len(t), len(s)) for of_site in values.values() for b, (t, s) in of_site.items()}
        return SecureSum(self.book, self.deals, plans, shapes)

    def answer(self, total: SecureSum, plan: Plan, site: str, values: Values) -> None:
        """Let a site answer, and add the answer."""
        payloads = {b: Payload.of(*values[site][b], len(self.names)) for b in plan.parts}
        beside, masked = self.sites[site].mask(plan, payloads)
        assert total.problem(site, beside) == ""
        total.add(site, beside, masked)

    def aggregated(
        self,
        blocks: Mapping[str, Sequence[str]],
        values: Values,
        silent: Collection[str] = (),
        mute: Collection[str] = (),
    ) -> tuple[dict[str, Payload], dict[str, str]]:
        """Sums, and why blocks were withheld; the silent do not answer, the mute answer and do not open."""
        plans = {name: self.plan(name, blocks) for name in self.names}
        total = self.sum(plans, values)
        for name in self.names:
            if name not in silent:
                self.answer(total, plans[name], name, values)
        for name, ask in total.share_requests().items():
            if name not in mute:
                total.add_shares(name, self.sites[name].open(ask))
        return total.result()


def some_values(
    names: Sequence[str], blocks: Mapping[str, Sequence[str]], seed: int = 0, width: int = 7
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Numbers of every site for each of its blocks."""
    rng = np.random.default_rng(seed)
    return {
        n: {b: (rng.normal(size=width), rng.uniform(0, 900, 3)) for b, o in blocks.items() if n in o} for n in names
    }


def plain(blocks: Mapping[str, Sequence[str]], values: Values, names: Collection[str]) -> dict[str, Payload]:
    """The sums of the same integers without masks."""
    found = {}
    for block, observers in blocks.items():
        parts = [Payload.of(*values[n][block], len(values)) for n in observers if n in names]
        found[block] = parts[0].copy()
        for part in parts[1:]:
            found[block].add(part)
    return found


def same(one: Payload, other: Payload) -> bool:
    """Whether two payloads are equal, word by word."""
    return np.array_equal(one.tensors, other.tensors) and np.array_equal(one.statistics, other.statistics)


def started(five, blocks=None, told=None):
    """A slot in which all five have answered; `told`: what one site was told instead."""
    blocks = blocks or {SHARED: five.names}
    values = some_values(five.names, blocks)
    plans = {name: five.plan(name, blocks) for name in five.names}
    total = five.sum(plans, values)
    for name in five.names:
        five.answer(total, (told or {}).get(name, plans[name]), name, values)
    return total, values, blocks


def opened(five, total):
    """The sums, with the shares of everybody."""
    for name, ask in total.share_requests().items():
        total.add_shares(name, five.sites[name].open(ask))
    return total.result()


def is_noise(payload, expected):
    """Whether a sum has nothing to do with the true one."""
    return (
        np.mean(payload.tensors == expected.tensors) < 0.1 and np.mean(payload.statistics == expected.statistics) < 0.1
    )
