"""What every federated rule is. A method is one file of this folder: a `Rule` and `@registry.register`.

Both ends build the rule from the same config: the coordinator asks it how sites weigh and how replies are combined, a
hospital asks it what leaves and what to do in a round.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from remind.config import Config
from remind.federation.aggregation import BlockAverage
from remind.federation.site_weights import Weighing, Within
from remind.metrics.statistics import GroupLoss
from remind.objectives.base import Objective
from remind.objectives.weighting import Proportional
from remind.registry import Options, Registry
from remind.training.work import LocalWork

Tensors = Mapping[str, Tensor]
EVERY = ("local", "frozen", "shared")


class Rule:
    """Base of every rule: sites weigh n_s/n, all but encoders travels, a round is its local steps.

    Attributes
    ----------
    encoders
        What ``federation.encoders`` may be.
    pooled
        Whether all patients are brought to one place, which only a simulation can do.
    groups_travel
        Whether groups' own parameters cross the wire, as far as a site observes the group.
    weighs
        Whether the rule weighs sites or groups by their risks; then the objective must not.
    """

    encoders: tuple[str, ...] = EVERY
    pooled = False
    groups_travel = True
    weighs = False

    def __init__(self, options: Options, config: Config) -> None:
        self.options, self.config = options, config

    # At the coordinator

    def weighing(self, objective: Objective) -> Weighing[Any]:
        """What patients weigh; here each site runs the objective on its own groups, and sites weigh by their size."""
        return Within(Proportional(), objective)

    def combiner(self) -> BlockAverage:
        """What a round's replies are added to."""
        return BlockAverage()

    def server_init(self, model: Tensors) -> Tensors:
        """What the coordinator remembers from round to round besides the model, by name; before the first of them."""
        return {}

    def server_step(self, model: Tensors, average: Tensors, memory: Tensors) -> tuple[Tensors, Tensors]:
        """The tensors that a round moved, as they shall be, and the memory after it. A pure function.

        Parameters
        ----------
        model
            The model that the round began with, every tensor.
        average
            What the combiner made of the replies: the tensors that some reply carried and that the phase trains. All
            others stay as they are, and a rule leaves what it remembers of them alone.
        memory
            Of `server_init`, or of the step before. It begins anew with each stage and phase, as the optimisers of
            sites do. A group that came later has no entries yet.
        """
        return average, memory

    # At both ends

    def travels(self, name: str) -> bool:
        """Whether a parameter of the model crosses the wire; encoders are ``federation.encoders``'s business."""
        return True

    # At a site

    def work(self, work: LocalWork) -> Mapping[int, GroupLoss] | None:
        """One round at a site; returns losses that shall steer the weights in place of those of the received model."""
        work.steps()
        return None

    @contextmanager
    def measured(self, work: LocalWork) -> Iterator[None]:
        """Within the block the model is the one that this site would use: what validation and test measure."""
        yield


registry: Registry[Rule] = Registry("method.rule", "remind.federation.rules", Rule)
