"""Fair mixup: penalises changes of the output on the path from one group to another."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from remind.config import NonNegative
from remind.objectives.base import Objective, StepInput, registry
from remind.objectives.pairs import common, mixed, token_mask
from remind.registry import Options


class FairMixupOptions(Options):
    """The strength of the penalty."""

    penalty: NonNegative = Field(1.0, description="λ of λ·|mean ∇f·(z₁ − z₀)|")


@registry.register(
    "fairmixup",
    title="penalty on how the output changes along the path between patients of two groups",
    paper="Chuang and Mroueh, Fair mixup: fairness via interpolation",
    year=2021,
    options=FairMixupOptions,
)
class FairMixup(Objective):
    """mean ℓ + λ·|mean_pairs ∇f(x_t)·(z₁ − z₀)|, x_t = t·z₀ + (1 − t)·z₁, t ~ U(0, 1), at the fusion's input.

    t is drawn once a step, for all of its pairs: the penalty stands for ∫|d/dt E f(x_t)| dt, how much the mean output
    varies along the path. With a t for each pair, the mean over pairs would be the integral without the absolute value:
    the difference of the end points, whatever lies between.

    Two of the groups in a step are drawn; the smaller one's patients are each paired with one of the other's. f is the
    vector of class probabilities, and the absolute means are averaged over classes. Paths run through the modalities
    that both patients have; pairs with nothing in common are left out.
    """

    outcomes = "it compares probabilities of classes"
    couples_patients = True
    mixes_tokens = True
    options: FairMixupOptions

    def coupled_loss(self, step: StepInput) -> Tensor:
        """Return the penalty."""
        return self.options.penalty * self._path(step)

    def _path(self, step: StepInput) -> Tensor:
        """Return |mean over pairs of the class probabilities' derivative along the path|, averaged over classes."""
        batch, zero = step.batch, step.tokens_BMD.new_zeros(())
        present = torch.unique(batch.group_B)
        if len(present) < 2:
            return zero
        drawn = present[torch.randperm(len(present), generator=step.generator).to(present.device)[:2]]
        rows = [(batch.group_B == group).nonzero().squeeze(1) for group in drawn]
        number = min(map(len, rows))
        first, second = (r[torch.randperm(len(r), generator=step.generator).to(r.device)[:number]] for r in rows)
        shared_Pm = batch.presence_Bm[first] & batch.presence_Bm[second]
        some_P = shared_Pm.any(dim=1)
        if not some_P.any():
            return zero
        first, second = first[some_P], second[some_P]
        shared_Pm = common(batch.presence_Bm[first], batch.presence_Bm[second])
        mask_PM1 = token_mask(shared_Pm, step.token_counts).unsqueeze(2)
        t = torch.rand(1, generator=step.generator).to(step.tokens_BMD)
        t_P = t.repeat(len(first)).requires_grad_()
        path_PMD = mixed(step.tokens_BMD[first], step.tokens_BMD[second], t_P) * mask_PM1
        bits_m = torch.arange(shared_Pm.shape[1], device=shared_Pm.device)
        group_P = (shared_Pm.long() << bits_m).sum(dim=1)
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            p_PC = step.fuse(path_PMD, shared_Pm, group_P).logits_BC.softmax(dim=1)
        slopes = [torch.autograd.grad(p_PC[:, c].sum(), t_P, create_graph=True)[0].mean() for c in range(p_PC.shape[1])]
        return torch.stack(slopes).abs().mean()
