"""Study `transfer`: training on the patients with most modalities first, then on everyone, group by group."""

from typing import Annotated

from pydantic import Field
from typing_extensions import override

from remind import groups
from remind.config import Count
from remind.errors import UserError
from remind.registry import Options
from remind_studies.studies.variants import config_of, require_models
from remind_studies.study import Panel, Request, Study, registry


class TransferOptions(Options):
    """Who is rich, and how long they are trained on alone."""

    modalities: Annotated[int, Field(ge=0)] = Field(
        0, description="modalities of the patients to begin with, at least; 0: the most that any patient has"
    )
    share: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="share of the rounds that train on them alone")
    least: Count = Field(30, description="patients that a group must have for columns of its own")


@registry.register(
    "transfer",
    title="the patients with most modalities first, then everyone, with the scores of each group before and after",
    paper="pre-training on complete patients, as reviews of missing modalities describe it",
    year=2026,
    options=TransferOptions,
)
class Transfer(Study):
    """A panel per method, three rows of as many rounds: everyone at once; the rich alone; the rich, then everyone.

    The columns of each group are the check for bias: what the rich alone teach, and what is left of it after the rest.
    """

    methods, seeds = "remind", 5
    options: TransferOptions

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        require_models(request, "transfer")
        if given := [key for key in ("train.rich-rounds", "train.rich-modalities") if key in request.common]:
            raise UserError(f"--run-config {given[0]}: transfer sets it; give transfer(modalities = …, share = …)")
        counts = groups.counts(request.cohort.groups_N)
        number = {k: len(groups.members(k)) for k in counts}
        least = self.options.modalities or max(number.values())
        if not any(m >= least for m in number.values()):
            raise UserError(f"transfer: no patient has {least} modalities; the most is {max(number.values())}")
        if all(m >= least for m in number.values()):
            raise UserError(f"transfer: every patient has {least} modalities or more; name more of them")
        shown = [k for k, n in sorted(counts.items()) if n >= self.options.least]
        panels = []
        for arm in request.arms:
            rounds = config_of(request, arm).train.rounds
            first = min(max(round(self.options.share * rounds), 1), rounds - 1)
            if first < 1:
                raise UserError(f"transfer: {arm.name} has {rounds} round; two are needed")
            of = {"train.rich-modalities": least}
            panels.append(
                Panel(
                    name=arm.name,
                    title=f"{arm.name}: patients with {least} modalities or more first, for {first} of {rounds} rounds",
                    arms=(
                        arm.but("everyone", {"train.rich-rounds": 0}),
                        arm.but("rich alone", of | {"train.rich-rounds": rounds}),
                        arm.but("rich, then everyone", of | {"train.rich-rounds": first}),
                    ),
                    clients=request.clients,
                    reference="everyone",
                    measures=tuple(f"among:{k}" for k in shown),
                )
            )
        return tuple(panels)
