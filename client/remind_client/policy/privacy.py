"""``[policy.privacy]``: which guarantee a run must give this hospital's patients, and how much it may spend of it."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remind.config import Config

Protection = Literal["site", "joint", "secure-aggregation"]
Epsilon = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class PrivacyPolicy(BaseModel):
    """What a run must provide, and the budget of this hospital's patients."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    require: tuple[Protection, ...] = Field(
        (),
        description="protections without which nothing runs; 'site': noise of this site's own, privacy.mode = site; "
        "'joint': noise, of this site's own or shared under masks, privacy.mode = joint or site; "
        "'secure-aggregation': answers leave under masks",
    )
    epsilon_per_run: Epsilon | None = Field(None, description="most ε a run may spend on a patient; absent: any")
    epsilon_for_life: Epsilon | None = Field(None, description="most ε that all runs together may spend; absent: any")
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-5, description="δ of both, and the largest of a run; at most a tenth of 1/n of this site's n patients"
    )
    colluding: Annotated[int, Field(ge=0)] = Field(
        1, description="hospitals whose shares of the noise a joint run must not count on: least privacy.colluding"
    )
    tell: bool = Field(False, description="the coordinator is told what a run has spent here and what it has left")

    @model_validator(mode="after")
    def _limits_mean_something(self) -> Self:
        limits = {"epsilon_per_run": self.epsilon_per_run, "epsilon_for_life": self.epsilon_for_life}
        named = [name for name, value in limits.items() if value is not None]
        if named and not {"site", "joint"} & set(self.require):
            raise ValueError(
                f"{named[0]} limits nothing as long as runs without a guarantee may run; add require = ['site'], or "
                "['joint'] to admit runs whose hospitals share the noise"
            )
        per_run, for_life = self.epsilon_per_run, self.epsilon_for_life
        if per_run is not None and for_life is not None and per_run > for_life:
            raise ValueError(
                f"epsilon_per_run ({per_run:g}) is more than epsilon_for_life ({for_life:g}) can ever give"
            )
        return self

    @property
    def bounds_runs(self) -> bool:
        """Whether ε of a run is limited here."""
        return self.epsilon_per_run is not None or self.epsilon_for_life is not None

    def problem(self, config: Config) -> str:
        """Return why a run may not run here, in words that may leave; empty if it may."""
        if missing := [protection for protection in self.require if protection not in provided(config)]:
            what, has = {
                "site": (
                    "a guarantee for each patient by this site's own noise",
                    f"privacy.mode = {config.privacy.mode}",
                ),
                "joint": ("a guarantee for each patient", f"privacy.mode = {config.privacy.mode}"),
                "secure-aggregation": ("answers under masks", "federation.secure-aggregation = false"),
            }[missing[0]]
            return f"the site's policy requires {what} (policy.privacy.require = {missing[0]!r}); this run has {has}"
        if "joint" not in provided(config):
            return ""
        wanted = config.privacy
        if wanted.delta > self.delta:
            return f"the site's policy allows a delta of {self.delta:g}; this run has privacy.delta = {wanted.delta:g}"
        if wanted.mode == "joint" and wanted.colluding < self.colluding:
            return (
                f"the site's policy asks for noise that holds if {self.colluding} hospitals take theirs off; this run "
                f"has privacy.colluding = {wanted.colluding}"
            )
        most = min((one for one in (self.epsilon_per_run, self.epsilon_for_life) if one is not None), default=None)
        if most is not None and wanted.epsilon > most:
            return (
                f"the site's policy allows an epsilon of {most:g} a run; this run has "
                f"privacy.epsilon = {wanted.epsilon:g}"
            )
        return ""


def provided(config: Config) -> frozenset[str]:
    """Return the protections that a run provides."""
    mode = config.privacy.mode
    found = {
        "site": mode == "site",
        "joint": mode in ("site", "joint"),  # noise of this site's own is more
        "secure-aggregation": config.federation.secure_aggregation,
    }
    return frozenset(name for name, holds in found.items() if holds)
