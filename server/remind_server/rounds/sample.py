"""The members that take part in a round, how they were drawn, and what their answers weigh."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from remind.federation.aggregation import BlockAverage
from remind.federation.blocks import SHARED
from remind.federation.drawn_average import DrawnAverage
from remind.federation.participation import Draw, effective
from remind.methods import Methods
from remind_server.rounds.member import Member
from remind_server.rounds.tasks import Assignment


@dataclass(frozen=True)
class Sample:
    """The members of a round.

    Attributes
    ----------
    online
        The connected members, of which the others were drawn.
    members
        The drawn ones, by name.
    draw
        How they were drawn.
    weights
        Member → block → a_s, of all members of the run; empty if all were asked.
    """

    online: Sequence[Member]
    members: Sequence[Member]
    draw: Draw
    weights: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(
        cls, online: Sequence[Member], draw: Draw, weights: Mapping[str, Mapping[str, float]] | None = None
    ) -> "Sample":
        """Return the sample that this draw gives."""
        return cls(online, [member for member in online if member.name in draw.drawn], draw, weights or {})

    def combiner(self, methods: Methods) -> BlockAverage:
        """Return the object that takes the replies of the round."""
        if self.draw.unbiased and not self.draw.whole:
            return DrawnAverage(self.draw, self.weights)
        return methods.combiner()

    def effective(self, answered: Collection[str], tasks: Mapping[int, Assignment]) -> float:
        """Return how many equally weighted sites the answers of these sites are worth, in the shared parameters."""
        own = {m.name: tasks[m.node_id].task.block_weights.get(SHARED, 0.0) for m in self.members if m.name in answered}
        return effective([weight / self.draw.chances[name] for name, weight in own.items()])
