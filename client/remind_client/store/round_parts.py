"""The parts of a site's state that belong to the global models of single rounds."""

from collections.abc import Mapping, Sequence
from typing import Any

Part = Mapping[str, Any]


def parts_of(state: Part) -> list[Part]:
    """Return the parts of a state, the active one first; empty before the site has trained.

    Encoders that the site was given before its first round are those of round 0.
    """
    own = {name: state.get(name, nothing) for name, nothing in (("encoders", {}), ("kept", {}), ("since", 0))}
    return [own, *state.get("earlier", [])] if state.get("stage") or own["encoders"] else []


def newest(parts: Sequence[Part]) -> Part:
    """Return the part of the newest model."""
    return max(parts, key=_since)


def part_of_round(parts: Sequence[Part], round_: int) -> Part:
    """Return the part that belongs to the model of a round: the newest that is not of a later one.

    A site that took part only later has none; its oldest is nearest then.
    """
    before = [part for part in parts if _since(part) <= round_]
    return newest(before) if before else min(parts, key=_since)


def _since(part: Part) -> int:
    return int(part["since"])
