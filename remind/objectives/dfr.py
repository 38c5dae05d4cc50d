"""Deep feature reweighting: last-layer retraining."""

from typing import Annotated

from pydantic import Field

from remind.data.cohort.cohort import VALIDATION
from remind.objectives.base import Objective, Phase, is_head, registry
from remind.registry import Options


class DFROptions(Options):
    """How long the last layer is retrained."""

    retrain: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.25, description="share of the rounds (the last ones) that retrain"
    )


@registry.register(
    "dfr",
    title="ERM, then the last layer is retrained on held-out patients with balanced groups",
    paper="Kirichenko et al., Last layer re-training is sufficient for robustness to spurious correlations",
    year=2023,
    options=DFROptions,
)
class DFR(Objective):
    """ERM; then only the head trains, on validation patients, with equal weights of the groups.

    If groups span sites, w_k = 1/G over the groups with validation patients at any site, and each patient has the
    weight w_k/v_k with the v_k of all sites, so that the head equals that of pooled patients. Sites report these at
    enrolment; groups that a site does not train on, or that its policy withholds, are excluded there. Other rules
    balance groups within each site.

    The head continues from its current values with the run's optimiser, whereas the paper fits a new one by logistic
    regression: here sites share gradients, not features. The validation patients are then training patients of the
    head: the validation columns of these rounds are not held-out figures, and model selection must not use them.
    """

    needs_held_out = True
    options: DFROptions

    def phases(self, rounds: int) -> tuple[Phase, ...]:
        """Return the phases: training, then only the head."""
        last = min(max(round(self.options.retrain * rounds), 1), rounds - 1)
        if last < 1:
            return super().phases(rounds)
        return (
            Phase(0, rounds - last),
            Phase(rounds - last, last, part=VALIDATION, only=is_head, balanced=True),
        )
