"""Just train twice."""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from remind.config import Count
from remind.objectives.base import OWN, Objective, Phase, registry
from remind.registry import Options

WRONG = OWN + "wrong"


class JTTOptions(Options):
    """The first training, and the weight of its mistakes in the second."""

    identify: Annotated[float, Field(gt=0, lt=1)] = Field(0.3, description="share of the rounds that find the mistakes")
    upweight: Count = Field(10, description="how often a misclassified patient is in the second training set")


@registry.register(
    "jtt",
    title="train once, then again from the start with each misclassified patient ten times",
    paper="Liu et al., Just train twice: improving group robustness without training group information",
    year=2021,
    options=JTTOptions,
)
class JTT(Objective):
    """Error set E of an ERM model f_id; then ERM on the data with the patients of E `upweight` times.

    One round between the two trainings takes no steps: each site finds f_id's mistakes among its own training patients
    and stores them; they never leave the site. The rounds of both trainings add up to those of the run, so that JTT has
    the same budget as other methods.

    A mistake has the weight `upweight`/n, every other patient 1/n. So federated training equals training on the pooled
    patients, and no site reports its number of mistakes. The weights sum to more than 1: a step of plain SGD is longer
    by the mean number of copies, just as an epoch of the paper's larger training set has more steps. AdamW is invariant
    to this factor.
    """

    outcomes = "it copies patients whose class is predicted wrongly"
    options: JTTOptions

    def phases(self, rounds: int) -> tuple[Phase, ...]:
        """Return the phases: training, an evaluation, training again.

        A run with fewer than three rounds is too short for it.
        """
        if rounds < 3:
            return super().phases(rounds)
        first = min(max(round(self.options.identify * rounds), 1), rounds - 2)
        return (
            Phase(0, first),
            Phase(first, 1, train=False),
            Phase(first + 1, rounds - first - 1, restart=True),
        )

    @override
    def remember(self, wrong_N: Tensor, kept: dict[str, Tensor]) -> None:
        kept[WRONG] = wrong_N.to(torch.uint8)

    def copies(self, kept: Mapping[str, Tensor]) -> Tensor | None:
        """Return `upweight` for a mistake, 1 for other patients."""
        return 1 + kept[WRONG].long() * (self.options.upweight - 1) if WRONG in kept else None
