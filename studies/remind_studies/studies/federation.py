"""Study `federation`: the effect of the number of hospitals, the skew of their mixes, and the share in each round."""

from dataclasses import replace

from pydantic import Field
from typing_extensions import override

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.federation.rules.base import registry as rules
from remind.methods import methods_of
from remind.registry import Options
from remind_studies.arms import YARDSTICKS, all_yardsticks
from remind_studies.studies.variants import REMIND, beside, config_of, listed
from remind_studies.study import Arm, Panel, Request, Settings, Study, registry


class FederationOptions(Options):
    """What varies; an empty list leaves its panels out."""

    rules: str = Field("fedremind, lg, fedavg, local, pooled", description="federated rules, separated by commas")
    sites: str = Field("2, 5, 10, 20, 50", description="numbers of drawn hospitals")
    alpha: str = Field("0.1, 0.5, 1, 10", description="Dirichlet concentrations of drawn hospitals; small = skewed")
    participation: str = Field("0.25, 0.5, 1", description="shares of the hospitals that a round asks")


@registry.register(
    "federation",
    title="federated rules by number of hospitals, skew of their mixes, and share that takes part in a round",
    paper="beyond the paper",
    year=2026,
    options=FederationOptions,
)
class Federation(Study):
    """A panel per number of hospitals, per concentration and per share of participation; all else as configured.

    The arms are federated rules under which the main method runs, and the other methods as they are. Where the cohort
    has hospitals of its own, the panels of numbers and concentrations draw others in their place. Each hospital alone
    and all patients in one place take part in every round, whatever the share.

    A hospital takes its configured steps in a round however many others there are, so a run of 50 hospitals takes ten
    times as long as one of 5.
    """

    methods, seeds = REMIND, 5
    options: FederationOptions

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        arms = self._arms(request)
        number = request.clients or len(_own_hospitals(request))
        drawn: dict[str, Scalar] = {"data.sites": "dirichlet"}
        patients = len(set(request.cohort.person_N.tolist()))

        def panel(name: str, title: str, clients: int | None, settings: Settings) -> Panel:
            return Panel(name, title, arms, settings, clients=clients, reference=arms[0].name)

        sites = listed(self.options.sites, int, "sites") if self.options.sites else ()
        if bad := [n for n in sites if not 2 <= n <= patients]:
            raise UserError(f"sites: {bad[0]} hospitals for {patients} patients; name numbers from 2 to {patients}")
        panels = [panel(f"sites = {n}", f"{n} drawn hospitals", n, drawn) for n in sites]
        for alpha in self._numbers("alpha", float("inf")):
            title = f"{number} drawn hospitals, Dirichlet concentration {alpha:g}"
            panels.append(panel(f"alpha = {alpha:g}", title, number, {**drawn, "data.alpha": alpha}))
        for share in self._numbers("participation", 1.0):
            some = tuple(arm if arm.anchor else arm.but(arm.name, {"federation.participation": share}) for arm in arms)
            whole = panel(f"participation = {share:g}", f"{share:.0%} of the hospitals in a round", request.clients, {})
            panels.append(replace(whole, arms=some))
        if not panels:
            raise UserError("federation: sites, alpha and participation are all empty: there is nothing to vary")
        return tuple(panels)

    def _arms(self, request: Request) -> tuple[Arm, ...]:
        """Return the main method under each rule, then the others of the request; the first is the reference."""
        under = tuple(_under(request, text) for text in listed(self.options.rules, str, "rules"))
        found = (*under, *beside(request, under, request.main))
        if request.anchors:
            names = {arm.name for arm in found}
            found = (*found, *(arm for arm in all_yardsticks() if request.yardsticks and arm.name not in names))
        return tuple(sorted(found, key=lambda arm: arm.anchor))

    def _numbers(self, option: str, most: float) -> tuple[float, ...]:
        text = getattr(self.options, option)
        values = listed(text, float, option) if text else ()
        if bad := [v for v in values if not 0 < v <= most or v == float("inf")]:
            raise UserError(f"{option}: {bad[0]:g} is not above 0" + ("" if most > 1 else " and at most 1"))
        return values


def _under(request: Request, text: str) -> Arm:
    """Return the main method under a rule; one that weighs by risk itself takes every patient alike, as it must."""
    rule = rules.choose(text)[0]
    config = config_of(request, request.main)
    encoders = config.federation.encoders
    settings: dict[str, Scalar] = {**request.main.settings, "method.rule": text}
    if encoders not in rule.build.encoders:
        settings["federation.encoders"] = rule.build.encoders[0]
    if rule.build.weighs:
        settings["method.objective"] = "erm"
    methods_of(Config.from_flat({**request.common, **settings}, f"rule {text!r}"))
    return Arm(name=text, settings=settings, anchor=rule.name in YARDSTICKS)


def _own_hospitals(request: Request) -> set[str]:
    """Return the names of the hospitals that the cohort has by itself; without ``request.clients`` it has some."""
    assert request.cohort.site_N is not None
    return set(request.cohort.site_N.tolist())
