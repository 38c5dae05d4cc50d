"""The base class of aggregators. A method is one file of this folder: an `Aggregator` and `@registry.register`.

A rule decides what sites weigh, send and do; an aggregator decides how the tensors that they send back become one, so
that every rule goes with every aggregator (`remind.methods` says which do not). A rule's step at the coordinator then
starts from the aggregator's result.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from remind.config import Config
from remind.federation.aggregation import BlockAverage, Reply
from remind.federation.blocks import block_of
from remind.registry import Options, Registry


class Aggregator(ABC):
    """Base class of aggregators.

    Attributes
    ----------
    averages
        Whether the result is the average of algorithm §3, of which a sum over sites is enough.
    """

    averages: ClassVar[bool] = False

    def __init__(self, options: Options, config: Config) -> None:
        self.options, self.config = options, config

    @property
    def least(self) -> int:
        """Fewest replies to a block for which the method is defined."""
        return 1

    @abstractmethod
    def combiner(self) -> BlockAverage:
        """Return the object that takes the replies of one round."""


class Robust(Aggregator):
    """Base of aggregators that look at all replies to a block together, each hospital with one vote.

    A block's weights are not used: they grow with the patients that a hospital claims, and a site that lies would be
    heard the more. A block with fewer replies than `least` gets their weighted average, as without this aggregator:
    with two replies nobody can tell which one is wrong.
    """

    @abstractmethod
    def combined(self, stacks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the new value of each tensor of a block, from the replies stacked along the first dimension, float64.

        The result must not depend on the order of the replies.
        """

    @override
    def combiner(self) -> BlockAverage:
        return Together(self)


class Together(BlockAverage):
    """Keeps the replies of a round until all are there: memory for all of them."""

    def __init__(self, aggregator: Robust) -> None:
        super().__init__()
        self._aggregator = aggregator
        self._replies: dict[str, list[Mapping[str, Tensor]]] = {}  # block → replies with weight

    @override
    def take(self, reply: Reply) -> None:
        super().take(reply)
        by_block: dict[str, dict[str, Tensor]] = {}
        for name, tensor in reply.tensors.items():
            by_block.setdefault(block_of(name), {})[name] = tensor
        for block, own in by_block.items():
            if reply.weights.get(block, 0.0) > 0:
                self._replies.setdefault(block, []).append(own)

    @override
    def average(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = super().average(tensors)
        for replies in self._replies.values():
            if len(replies) < self._aggregator.least:
                continue
            names = [name for name in replies[0] if name in found]
            stacks = {name: torch.stack([reply[name].to(torch.float64) for reply in replies]) for name in names}
            combined = self._aggregator.combined(stacks)
            found |= {name: value.to(tensors[name].dtype) for name, value in combined.items()}
        return found


registry: Registry[Aggregator] = Registry("method.aggregator", "remind.federation.aggregators", Aggregator)
