"""A site that takes part."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Member:
    """A site that takes part.

    Attributes
    ----------
    node_id, name
        The site's node and registered name.
    counts, labels
        n_{s,k}, and n_{s,k} by class.
    held_out
        Validation patients of each group, if the objective trains on them.
    observed
        Groups whose blocks the site can receive.
    minimum
        The site's minimum count: it reports nothing about smaller groups.
    named
        Whether published files may name the site; None: it has no policy.
    """

    node_id: int
    name: str
    counts: Mapping[int, int]
    observed: frozenset[int]
    labels: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    held_out: Mapping[int, int] = field(default_factory=dict)
    minimum: int = 1
    named: bool | None = None

    @property
    def connected(self) -> bool:
        """Whether the site has a node. A member of a resumed run has none until it enrols again."""
        return self.node_id >= 0

    def described(self) -> dict[str, Any]:
        """Return everything except the node, as JSON."""
        return {
            "name": self.name,
            "counts": {str(k): n for k, n in self.counts.items()},
            "observed": sorted(self.observed),
            "labels": {str(k): list(n) for k, n in self.labels.items()},
            "held_out": {str(k): n for k, n in self.held_out.items()},
            "minimum": self.minimum,
            "named": self.named,
        }

    @classmethod
    def of(cls, found: Mapping[str, Any], node_id: int) -> "Member":
        """Return the described member with this node."""
        return cls(
            node_id,
            found["name"],
            {int(k): n for k, n in found["counts"].items()},
            frozenset(found["observed"]),
            {int(k): tuple(n) for k, n in found["labels"].items()},
            {int(k): n for k, n in found["held_out"].items()},
            found["minimum"],
            found["named"],
        )
