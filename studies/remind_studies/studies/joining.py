"""Study `joining`: an estimate of the gain from joining, before anybody trains a neural network.

Trees at each hospital, in a federation and on all pooled patients take minutes. The gain of pooled trees over each
hospital's best is about the most that a consortium can expect. The gain of federated trees can be had without further
work.
"""

from pydantic import Field
from typing_extensions import override

from remind.config import Scalar
from remind.errors import UserError
from remind.registry import Options
from remind_studies.arms import all_yardsticks
from remind_studies.studies.variants import listed
from remind_studies.study import Panel, Request, Study, registry


class JoiningOptions(Options):
    """Into how many hospitals the same patients are divided."""

    sites: str = Field("2, 5, 10, 20", description="numbers of drawn hospitals beside the cohort's own; may be empty")


@registry.register(
    "joining",
    title="what hospitals can gain from training together, by trees alone: before anybody trains",
    paper="beyond the paper",
    year=2026,
    options=JoiningOptions,
)
class Joining(Study):
    """A panel for the cohort's own hospitals, and one per number of drawn ones.

    The more hospitals the same patients are divided into, the fewer each has: the panels are the learning curve of a
    hospital alone, from few large sites to many small ones, while what all have together stays the same.
    """

    methods, seeds = "exchanged_trees, xgb_bagging, xgb_cyclic", 5
    options: JoiningOptions

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        names = {arm.name for arm in request.arms}
        arms = (*request.arms, *(arm for arm in all_yardsticks() if arm.name not in names))
        patients = len(set(request.cohort.person_N.tolist()))
        numbers = listed(self.options.sites, int, "sites") if self.options.sites else ()
        if bad := [n for n in numbers if not 2 <= n <= patients]:
            raise UserError(f"sites: {bad[0]} hospitals for {patients} patients; name numbers from 2 to {patients}")
        drawn: dict[str, Scalar] = {"data.sites": "dirichlet"}
        panels = [
            Panel(f"sites = {n}", f"{n} drawn hospitals", arms, drawn, clients=n, reference=request.main.name)
            for n in numbers
        ]
        data = request.config.data
        if request.cohort.site_N is not None and data.sites != "dirichlet":
            own = len(set(request.cohort.site_N.tolist()))
            first = Panel("hospitals", f"the cohort's {own} hospitals", arms, reference=request.main.name)
            panels = [first, *panels]
        if not panels:
            raise UserError("joining: the cohort has no hospitals of its own, and sites is empty: name numbers of them")
        return tuple(panels)
