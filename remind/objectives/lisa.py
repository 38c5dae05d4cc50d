"""LISA: mix patients of one label across groups."""

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from remind.config import Positive
from remind.objectives.base import Objective, StepInput, registry
from remind.objectives.pairs import mixed, partners, token_mask
from remind.registry import Options


class LISAOptions(Options):
    """How patients are mixed."""

    beta: Positive = Field(2.0, description="t ~ Beta(beta, beta)")


@registry.register(
    "lisa",
    title="mixup of patients with the same label from different groups",
    paper="Yao et al., Improving out-of-distribution robustness via selective augmentation",
    year=2022,
    options=LISAOptions,
)
class LISA(Objective):
    """min E ℓ(f(t·z_i + (1−t)·z_j), y) with y_i = y_j = y, g_i ≠ g_j, t ~ Beta(2, 2), at the fusion's input.

    Only the intra-label half of LISA: groups here are modality combinations, not domains. Tokens are mixed where both
    patients have the modality; what only the first has stays, and the mixture keeps the first one's group. A patient
    without such a partner in the step is trained on as it is.
    """

    outcomes = "it mixes patients of the same class"
    couples_patients = True
    mixes_tokens = True
    options: LISAOptions

    @override
    def patient_losses(self, step: StepInput) -> Tensor:
        batch = step.batch
        same_BB = batch.label_B.unsqueeze(0) == batch.label_B.unsqueeze(1)
        other_BB = batch.group_B.unsqueeze(0) != batch.group_B.unsqueeze(1)
        partner_B = partners(same_BB & other_BB, step.generator)
        gamma = torch.distributions.Beta(self.options.beta, self.options.beta)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=step.generator)))
            t_B = gamma.sample((len(partner_B),)).to(step.tokens_BMD)
        both_Bm = batch.presence_Bm & batch.presence_Bm[partner_B]
        both_BM1 = token_mask(both_Bm, step.token_counts).unsqueeze(2)
        mixed_BMD = torch.where(both_BM1, mixed(step.tokens_BMD, step.tokens_BMD[partner_B], t_B), step.tokens_BMD)
        return self.losses_on(step, mixed_BMD)
