"""Study `leakage`: which patients a coordinator finds in a group's update, without protection and with."""

from typing import Annotated

from pydantic import Field
from typing_extensions import override

from remind import groups
from remind.config import Config, Count, Scalar
from remind.errors import UserError
from remind.registry import Options
from remind.training.private.admission import require_given_scales
from remind_studies.cells.leakage import GUESSING
from remind_studies.studies.private import guaranteed, unprotected
from remind_studies.studies.variants import listed, remind_of
from remind_studies.study import Arm, Panel, Request, Study, registry

# What a coordinator may choose, and chooses: its gradients are then those of the hospital, to the last digits.
CHOSEN: dict[str, Scalar] = {
    "model.dropout": 0.0,
    "model.hide": 0.0,
    "train.ranking": 0.0,
    "method.objective": "erm",
    "federation.encoders": "frozen",
}
VIEWS = {
    GUESSING: "guessing",
    "gradient": "one gradient",
    "minimum": "minimum of 10 patients",
    "sum": "sum over 3 hospitals",
    "round": "a round of local steps",
}


class LeakageOptions(Options):
    """Whom to look for, and how often."""

    sizes: str = Field("1, 2, 5, 10, 20, 40", description="patients of the group at a hospital; separated by commas")
    epsilon: str = Field("8, 3, 1", description="ε of runs with a guarantee; separated by commas; empty: none")
    draws: Count = Field(3, description="draws of members for each size and seed")
    candidates: Count = Field(400, description="most records that the coordinator holds")
    others: Annotated[int, Field(ge=0)] = Field(200, description="patients of other groups at the hospital")
    group: str = Field("", description="modalities of the group, joined by +; empty: the largest that lacks one")


@registry.register(
    "leakage",
    title="which patients of a group a coordinator finds who holds candidate records",
    paper="DLG and after: Zhu et al., Deep leakage from gradients, NeurIPS 2019",
    year=2026,
    options=LeakageOptions,
)
class Leakage(Study):
    """One panel; a row for each thing that a coordinator can be sent. Models are random: nothing is trained to an end.

    `named, of n`: share of the n patients at a hospital that are among the n that it names. `ranked, of n`: chance that
    one of them has a higher score than another candidate.
    """

    methods, seeds = "remind", 3
    options: LeakageOptions

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        whole = remind_of(request, "leakage")
        epsilons = listed(self.options.epsilon, float, "epsilon") if self.options.epsilon else ()
        if epsilons:
            require_given_scales(
                request.cohort.schema, Config.from_flat({**request.common, **guaranteed("site", epsilons[0])})
            )
        rounds = request.config.train.rounds
        base = whole.but(whole.name, {**CHOSEN, "train.warmup-rounds": 0, "train.routing-rounds": rounds})
        arms = [self._arm(base, view, name, unprotected()) for view, name in VIEWS.items()]
        arms += [self._arm(base, "noise", f"ε = {e:g}", guaranteed("site", e)) for e in epsilons]
        sizes = listed(self.options.sizes, int, "sizes")
        if bad := [size for size in sizes if size < 1]:
            raise UserError(f"sizes: {bad[0]} is not a number of patients")
        group = self._group(request)
        options: dict[str, Scalar] = {
            "group": group,
            "sizes": ",".join(map(str, sizes)),
            "draws": self.options.draws,
            "candidates": self.options.candidates,
            "others": self.options.others,
        }
        name = groups.name(group, request.cohort.schema.names)
        title = f"patients of {name} that are found"
        return (Panel("leakage", title, tuple(arms), options=options, clients=request.clients, runner="leakage"),)

    def _arm(self, base: Arm, view: str, name: str, changes: dict[str, Scalar]) -> Arm:
        arm = base.but(name, changes)
        return arm.model_copy(update={"options": {**arm.options, "view": view}})

    def _group(self, request: Request) -> int:
        names, counts = request.cohort.schema.names, groups.counts(request.cohort.groups_N)
        if self.options.group:
            group = groups.parse(self.options.group, names)
            if group not in counts:
                raise UserError(f"group: nobody of cohort {request.cohort.schema.name} has {self.options.group}")
            return group
        lacking = {k: n for k, n in counts.items() if k != 2 ** len(names) - 1}
        return max(lacking or counts, key=lambda k: (counts[k], -k))
