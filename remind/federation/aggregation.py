"""Averages block by block as replies arrive, so memory does not grow with the number of sites."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from typing_extensions import override

from remind.federation.blocks import block_of
from remind.fusion.base import Told
from remind.metrics.statistics import GroupLoss

PIECE = 1 << 20  # numbers that are converted at a time


@dataclass(frozen=True)
class Reply:
    """One checked reply of a site.

    Attributes
    ----------
    tensors, weights
        What the site sent back, and a_s of each block.
    sent, losses
        The model that the site received, and its training losses on it; for rules that need more than an average.
    chance
        π_s, the probability with which the site was drawn to take part in the round.
    site
        Its name, for rules that keep a model for each site.
    """

    tensors: Mapping[str, Tensor]
    weights: Mapping[str, float]
    sent: Mapping[str, Tensor] | None = None
    losses: Mapping[int, GroupLoss] | None = None
    chance: float = 1.0
    site: str = ""


class BlockAverage:
    """Σ_s a_s·θ_s / Σ_s a_s of every tensor over the replies that carry its block (algorithm §3).

    Sums are kept in float64. A block that is in no reply stays unchanged.
    """

    def __init__(self) -> None:
        self._sum: dict[str, Tensor] = {}
        self._weight: dict[str, float] = {}

    def add(
        self,
        tensors: Mapping[str, Tensor],
        block_weights: Mapping[str, float],
        sent: Mapping[str, Tensor] | None = None,
        losses: Mapping[int, GroupLoss] | None = None,
        chance: float = 1.0,
        site: str = "",
    ) -> None:
        """Add one checked reply, described by the fields of `Reply`."""
        self.take(Reply(tensors, block_weights, sent, losses, chance, site))

    def take(self, reply: Reply) -> None:
        """Add one checked reply with the site's weight a_s/π_s for each block. Combiners of rules override this."""
        for name, tensor in reply.tensors.items():
            weight = reply.weights.get(block_of(name), 0.0) / reply.chance  # no weight: λ of all its groups is 0
            if name not in self._sum:
                self._sum[name] = torch.zeros(tensor.shape, dtype=torch.float64)
                self._weight[name] = 0.0
            add_scaled(self._sum[name], tensor, weight)
            self._weight[name] += weight

    def average(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the average of every global tensor that some reply carried with weight, dtypes unchanged."""
        return {
            name: (self._sum[name] / self._weight[name]).to(tensor.dtype)
            for name, tensor in tensors.items()
            if self._weight.get(name)
        }

    def weights(self) -> dict[str, float]:
        """Return Σ_s a_s of the replies that carried a tensor, by name."""
        return dict(self._weight)

    def by_site(self) -> Mapping[str, "Reply"]:
        """Return the replies of each site, where the rule keeps them."""
        return {}

    def apply(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the global tensors with every averaged one replaced."""
        return {**tensors, **self.average(tensors)}


def add_scaled(whole: Tensor, part: Tensor, weight: float) -> None:
    """Add weight·part to a sum in float64, piece by piece, so that no second tensor of its size is made."""
    flat, of = whole.view(-1), part.reshape(-1)
    for start in range(0, len(flat), PIECE):
        flat[start : start + PIECE].add_(of[start : start + PIECE].to(torch.float64), alpha=weight)


def is_as_sent(reply: Tensor, sent: Tensor) -> bool:
    """Return whether a site sends back what it received, and so tells nothing; numbers were rounded on the way."""
    return torch.equal(reply, sent.to(reply.dtype))


Merge = Callable[[str, Sequence[Told], Tensor], Tensor]


class Merging(BlockAverage):
    """Another combiner for all tensors but some, which are few and small: their replies are kept, and merged.

    Parameters
    ----------
    others
        The combiner of all other tensors.
    merges
        Whether a tensor, by name, is merged.
    merge
        Name, replies and value before → the new value. Each reply comes with what the site had received; a site that
        sends just that says nothing.
    """

    def __init__(self, others: BlockAverage, merges: Callable[[str], bool], merge: Merge) -> None:
        super().__init__()
        self._others, self._merges, self._merge = others, merges, merge
        self._replies: dict[str, list[tuple[Tensor, Tensor | None]]] = {}

    @override
    def take(self, reply: Reply) -> None:
        averaged = {name: tensor for name, tensor in reply.tensors.items() if not self._merges(name)}
        self._others.take(replace(reply, tensors=averaged))
        for name in reply.tensors.keys() - averaged.keys():
            told, sent = reply.tensors[name], None if reply.sent is None else reply.sent[name]
            if sent is None or not is_as_sent(told, sent):
                self._replies.setdefault(name, []).append((told, sent))

    @override
    def average(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        merged = {}
        for name, replies in self._replies.items():
            if (before := tensors.get(name)) is not None:
                told = [(reply, before if sent is None else sent) for reply, sent in replies]
                merged[name] = self._merge(name, told, before)
        return self._others.average(tensors) | merged

    @override
    def weights(self) -> dict[str, float]:
        return self._others.weights()

    @override
    def by_site(self) -> Mapping[str, Reply]:
        return self._others.by_site()


class BySite(BlockAverage):
    """An average that also keeps every reply: memory for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self._replies: dict[str, Reply] = {}

    @override
    def take(self, reply: Reply) -> None:
        super().take(reply)
        self._replies[reply.site] = reply

    @override
    def by_site(self) -> Mapping[str, Reply]:
        return self._replies
