"""Study `unseen`: groups that are held out of training (the paper's Fig. 5)."""

import math
from typing import Annotated

import numpy as np
from pydantic import Field
from typing_extensions import override

from remind import groups
from remind.config import Count, Fraction
from remind.errors import UserError
from remind.registry import Options
from remind.seeds import derive
from remind_studies.cells.unseen import refuse_what_does_not_travel
from remind_studies.studies.variants import REMIND, config_of, listed, require_models
from remind_studies.study import Panel, Request, Study, registry


class UnseenOptions(Options):
    """Which groups are held out, and how long they are adapted to."""

    groups: str = Field("", description="groups by name, separated by commas: 'labs+imaging, labs'; empty: the rarest")
    number: Count = Field(2, description="how many of the rarest")
    least: Count = Field(30, description="patients that a group must have to be held out unasked")
    share: Fraction = Field(0.0, description="hold out this share of the groups with enough patients, drawn, instead")
    rounds: Annotated[int, Field(ge=0)] = Field(0, description="of fine-tuning; 0: as many as stage 2 has")


@registry.register(
    "unseen",
    title="groups held out of training, then met: nothing, head, router, experts fine-tuned",
    paper="Fig. 5",
    year=2026,
    options=UnseenOptions,
)
class Unseen(Study):
    """A panel per method, whose rows are what is fine-tuned; tested against the model as it was."""

    methods, seeds = REMIND, 5
    options: UnseenOptions

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        require_models(request, "unseen")
        schema = request.cohort.schema
        held = self._held(request)
        every = set(groups.counts(request.cohort.groups_N))
        if not every - held:
            raise UserError("unseen: all groups would be held out, and none be left to train on")
        names = ", ".join(groups.name(mask, schema.names) for mask in sorted(held))
        for arm in request.arms:
            refuse_what_does_not_travel(config_of(request, arm))
        masks = ",".join(map(str, sorted(held)))
        return tuple(
            Panel(
                name=arm.name,
                title=f"{arm.name} meets {names}",
                arms=(arm,),
                options={"groups": masks, "rounds": self.options.rounds},
                clients=request.clients,
                runner="unseen",
                measures=(f"among:{masks}", f"besides:{masks}"),
            )
            for arm in request.arms
        )

    def _held(self, request: Request) -> set[int]:
        """Return the groups to hold out, by bitmask."""
        names, counts = request.cohort.schema.names, groups.counts(request.cohort.groups_N)
        if self.options.groups:
            found = set(listed(self.options.groups, lambda text: groups.parse(text, names), "groups"))
            if absent := sorted(mask for mask in found if mask not in counts):
                raise UserError(f"groups: no patient has exactly {groups.name(absent[0], names)}")
            return found
        enough = sorted((mask for mask, n in counts.items() if n >= self.options.least), key=lambda k: (counts[k], k))
        if len(enough) < 2:
            raise UserError(
                f"unseen: {len(enough)} group(s) have {self.options.least} patients or more, and one must be left to "
                "train on; lower `least`, or name the groups"
            )
        if not self.options.share:
            return set(enough[: min(self.options.number, len(enough) - 1)])
        number = min(max(1, math.ceil(self.options.share * len(enough) - 1e-9)), len(enough) - 1)
        order = np.random.default_rng(derive(0, "unseen")).permutation(len(enough))
        return {enough[i] for i in order[:number]}
