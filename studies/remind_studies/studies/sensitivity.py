"""Study `sensitivity`: the effect of REMIND's own settings (the paper's Table 16)."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import Field
from typing_extensions import override

from remind.errors import UserError
from remind.fusion.base import registry as fusions
from remind.registry import Options
from remind_studies.studies.variants import REMIND, config_of, listed, remind_of, with_options
from remind_studies.study import Arm, Panel, Request, Study, registry

Value = TypeVar("Value", float, int, str)
MISSING, RESIDUAL = ("learned", "zero"), ("zeros", "sine")  # of `remind.fusion.remind.RemindOptions`


class SensitivityOptions(Options):
    """Values to try; the configured one is always among them."""

    gamma: str = Field("0.02, 0.1, 0.5, 1", description="γ, the step of GroupDRO; separated by commas")
    experts: str = Field("0.25, 0.5, 1, 2, 4", description="E, in units of the configured number of experts")


@registry.register(
    "sensitivity",
    title="γ, number of experts, missing-modality embedding, initial Φ_k, one at a time",
    paper="Table 16",
    year=2026,
    options=SensitivityOptions,
)
class Sensitivity(Study):
    """A panel per setting: REMIND with its values, all else as configured; tested against the configured value.

    Each hospital alone and all patients in one place are not shown: every value would have its own.
    """

    methods, seeds = REMIND, 5
    options: SensitivityOptions

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        whole = remind_of(request, "sensitivity")
        config = config_of(request, whole)
        choice = config.method.fusion
        _, fusion = fusions.choose(choice)

        def panel(name: str, title: str, arms: Mapping[Value, Arm], configured: Value) -> Panel:
            reference = arms[configured].name
            return Panel(name, title, tuple(arms.values()), clients=request.clients, reference=reference)

        gammas = {g: whole.but(f"γ = {g:g}", {"dro.gamma": g}) for g in self._gammas(config.dro.gamma)}
        experts = {e: whole.but(f"E = {e}", {"model.experts": e}) for e in self._experts(config.model.experts)}
        missing = {v: whole.but(f"B_k {v}", {"method.fusion": with_options(choice, missing=v)}) for v in MISSING}
        residual = {
            v: whole.but(f"Φ_k from {v}", {"method.fusion": with_options(choice, residual=v)}) for v in RESIDUAL
        }
        return (
            panel("gamma", "step γ of GroupDRO", gammas, config.dro.gamma),
            panel("experts", "number of experts", experts, config.model.experts),
            panel("missing", "embedding of an absent modality", missing, fusion.missing),
            panel("residual", "initial residual router Φ_k", residual, fusion.residual),
        )

    def _gammas(self, configured: float) -> list[float]:
        values = listed(self.options.gamma, float, "gamma")
        if bad := [g for g in values if not 0 <= g < float("inf")]:
            raise UserError(f"gamma: {bad[0]:g} is not a number that is at least 0")
        return sorted({*values, configured})

    def _experts(self, configured: int) -> list[int]:
        factors = listed(self.options.experts, float, "experts")
        if bad := [f for f in factors if not 0 < f < float("inf")]:
            raise UserError(f"experts: {bad[0]:g} is not a number above 0")
        return sorted({configured, *(max(1, round(f * configured)) for f in factors)})
