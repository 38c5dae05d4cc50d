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
    """ERM; then only the head trains, on validation patients drawn group by group, each group alike.

    Where groups span sites, w_k = 1/G over the groups that somebody has validation patients of, and each patient weighs
    w_k/v_k with the v_k of all sites, so that the head is that of the pooled patients. Sites say at enrolment how many
    they have; of a group that a site does not train on, or that its policy withholds, they take no part. Other rules
    balance within each site.

    The head goes on from where it is, with the run's optimiser, where the paper fits a new one by logistic regression:
    sites share gradients here, not features. Validation patients then are training patients of the head: what the
    validation columns show of these rounds is no held-out figure, and model selection must not use it.
    """

    needs_held_out = True
    options: DFROptions

    def phases(self, rounds: int) -> tuple[Phase, ...]:
        """Training, then the head alone."""
        last = min(max(round(self.options.retrain * rounds), 1), rounds - 1)
        if last < 1:
            return super().phases(rounds)
        return (
            Phase(0, rounds - last),
            Phase(rounds - last, last, part=VALIDATION, only=is_head, balanced=True),
        )
