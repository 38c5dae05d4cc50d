"""FedRep: a shared representation, and a separate head at each site."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from remind.federation.rules.base import Rule, registry
from remind.metrics.statistics import GroupLoss
from remind.objectives.base import is_head
from remind.registry import Options
from remind.training.work import LocalWork


class FedRepOptions(Options):
    """How the steps of a round are divided between head and representation."""

    head_steps: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="share of the local steps for the head")


@registry.register(
    "fedrep",
    title="shared representation, personal head: first the head trains, then the rest",
    paper="Collins et al., Exploiting shared representations for personalized federated learning",
    year=2021,
    options=FedRepOptions,
)
class FedRep(Rule):
    """Each round: h_s ← steps on the head with the representation fixed; φ_s ← steps on φ with h_s fixed; average φ.

    The representation is all of the fusion model but its head, and the encoders. Each part gets one step at least; in a
    round of a single step both move at once. A head follows the mean loss of its site's own patients.
    """

    options: FedRepOptions

    def travels(self, name: str) -> bool:
        """Send all parameters except the head."""
        return not is_head(name)

    @override
    def work(self, work: LocalWork) -> Mapping[int, GroupLoss] | None:
        number = len(work.plan)
        if number < 2:
            work.steps()
            return None
        turn = min(max(round(self.options.head_steps * number), 1), number - 1)
        work.steps(0, turn, only=is_head)
        work.steps(turn, None, only=self.travels)
        return None
