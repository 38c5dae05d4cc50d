"""Rules that weigh sites, or groups, by their risks."""

from typing import Literal

from pydantic import Field
from typing_extensions import override

from remind.federation.rules.base import Rule
from remind.federation.site_weights import Spanning, Within
from remind.objectives.base import Objective
from remind.objectives.weighting import Weighting
from remind.registry import Options


class UnitOptions(Options):
    """The units: sites or groups."""

    units: Literal["sites", "groups"] = Field("sites", description="units that get weights; groups span sites")


class UnitRule(Rule, Weighting):
    """A rule that is a weighting: of sites, with each site's patients alike, or of groups that span sites."""

    weighs = True
    options: UnitOptions

    @override
    def weighing(self, objective: Objective) -> Spanning | Within:
        return Spanning(self) if self.options.units == "groups" else Within(self, objective)
