"""The base class of federated rules. A method is one file of this folder: a `Rule` and `@registry.register`.

Both ends build the rule from the same config. The coordinator asks it how to weigh sites and combine replies; a
hospital asks it what to send and what to do in a round.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from remind.config import Config
from remind.federation.aggregation import BlockAverage, Reply
from remind.federation.site_weights import SomeWeighing, Within
from remind.metrics.statistics import GroupLoss
from remind.objectives.base import Names, Objective
from remind.objectives.weighting import Proportional
from remind.registry import Options, Registry
from remind.training.work import LocalWork

Tensors = Mapping[str, Tensor]
Travels = Callable[[str], bool]  # whether a parameter, by name, is sent
EVERY = ("local", "frozen", "shared")


@dataclass(frozen=True)
class Replies:
    """What a step at the coordinator can depend on besides the average.

    Attributes
    ----------
    lr
        Learning rate of the round at the sites.
    weight
        Σ_s a_s over the replies that carried a tensor, by name: 1 if every site that has the block answered.
    by_site
        What each site sent, where the rule's combiner keeps it.
    """

    lr: float
    weight: Mapping[str, float]
    by_site: Mapping[str, Reply] = field(default_factory=dict)


class Rule:
    """Base class of rules: sites weigh n_s/n, all tensors except encoders are sent, a round consists of local steps.

    Attributes
    ----------
    encoders
        Allowed values of ``federation.encoders``.
    pooled
        Whether all patients are pooled at one site, which only a simulation can do.
    groups_travel
        Whether groups' own parameters are sent, to and from sites that observe the group.
    sends
        Whether sites send tensors at all.
    private
        Whether a site takes every step of its plan once, and the rule uses no risks: what steps with differential
        privacy need. Each class says it for itself; subclasses do not inherit it.
    weighs
        Whether the rule weighs sites or groups by their risks; then the objective must not.
    broadcasts
        Words of the coordinator's memory that sites receive: the entry ``<word>/<parameter>`` goes, as
        ``rule/<word>/<parameter>``, to the sites that receive the parameter (`LocalWork.beside`), and does not come
        back.
    counts_answers
        Whether a site is told in which round its last answer of this stage counted (`RoundSettings.counted`).
    measures_local
        Whether sites also report the losses of their own models, after the steps, for `Weighing.compare`.
    lasting
        Words of the coordinator's memory that outlast a stage: entries ``<word>/…``.
    personal
        Whether the coordinator has a model for each site (`for_site`).
    linear_step
        Whether `server_step`, if the rule has its own, is linear in the average: then an unbiased estimate of the
        average gives an unbiased step.
    """

    encoders: tuple[str, ...] = EVERY
    pooled = False
    groups_travel = True
    weighs = False
    private = False
    sends = True
    broadcasts: ClassVar[tuple[str, ...]] = ()
    counts_answers: ClassVar[bool] = False
    measures_local: ClassVar[bool] = False
    lasting: ClassVar[tuple[str, ...]] = ()
    personal: ClassVar[bool] = False
    linear_step: ClassVar[bool] = False

    def __init__(self, options: Options, config: Config) -> None:
        self.options, self.config = options, config

    def moving(self) -> Names | None:
        """Return which parameters train; None: all. The others get no noise under a privacy guarantee."""
        return None

    # At the coordinator

    def weighing(self, objective: Objective) -> SomeWeighing:
        """Return the weights of patients.

        By default each site applies the objective to its own groups, and sites weigh by size.
        """
        return Within(Proportional(), objective)

    def combiner(self) -> BlockAverage:
        """Return the object that accumulates a round's replies."""
        return BlockAverage()

    def server_init(self, model: Tensors) -> Tensors:
        """Return the coordinator's memory before the first round: what it keeps besides the model, by name."""
        return {}

    def server_step(self, model: Tensors, average: Tensors, memory: Tensors) -> tuple[Tensors, Tensors]:
        """Return the new values of the tensors that a round changed, and the memory after it. A pure function.

        Parameters
        ----------
        model
            The model that the round began with, every tensor.
        average
            The combiner's result: the tensors that some reply carried and that the phase trains. All others stay
            unchanged, and a rule does not change its memory of them.
        memory
            Of `server_init`, or of the step before. It is reset with each stage and phase, like the
            optimisers of sites, but for what is `lasting`. A group that appeared later has no entries yet.
        """
        return average, memory

    def server_round(
        self, model: Tensors, average: Tensors, memory: Tensors, replies: Replies
    ) -> tuple[Tensors, Tensors]:
        """Do as `server_step`, for a rule whose step depends on more than the average."""
        return self.server_step(model, average, memory)

    def unused(self) -> Mapping[str, str]:
        """Return the settings that a run with this rule does not use, with the reason."""
        return {}

    def for_site(self, site: str, tensors: Tensors, memory: Tensors) -> Tensors:
        """Return what a site receives in place of these tensors of the common model, by the same names."""
        return tensors

    # At both ends

    def travels(self, name: str) -> bool:
        """Return whether a parameter of the model is sent; ``federation.encoders`` decides about encoders."""
        return True

    def travels_in(self, model: nn.Module) -> Travels:
        """Return `travels` for a model with ``fusion`` and ``encoders``, for a rule that must see their layers."""
        return self.travels

    def sent(self, model: nn.Module) -> Travels:
        """Return which parameters of a model are sent: as the rule says, without those that stay under any rule.

        A module names these in ``stays``.
        """
        travels = self.travels_in(model)
        stay = {f"{path}.{n}" for path, layer in model.named_modules() for n in getattr(layer, "stays", ())}
        return lambda name: name not in stay and travels(name)

    @classmethod
    def sends_all(cls) -> bool:
        """Return whether no parameter stays at a site but encoders, as ``federation.encoders`` says."""
        return cls.travels is Rule.travels and cls.travels_in is Rule.travels_in

    # At a site

    def work(self, work: LocalWork) -> Mapping[int, GroupLoss] | None:
        """Do one round at a site.

        The returned losses, if any, replace those of the received model in the update of the weights.
        """
        work.steps()
        return None

    @contextmanager
    def measured(self, work: LocalWork) -> Iterator[None]:
        """Yield with the model that this site would use: the one that validation and test measure."""
        yield


registry: Registry[Rule] = Registry("method.rule", "remind.federation.rules", Rule)
