"""FedMAC (Nguyen et al. 2024, arXiv 2410.03070): imputation embeddings, and weights by mutual reconstruction.

    h_i = mean of the tokens of modality i;  z_i = h_i where modality i is present, else e_i, learned
    ẑ_i = R_i·mean_{j≠i} z_j + r_i                      reconstruction of modality i from the others
    w = softmax_i(cos(ẑ_i, z_i)/τ);  u = Σ_i w_i·(V_i z_i + v_i);  head on LN u
    loss + reconstruct·mean over present i of ‖ẑ_i − z_i‖²/D
         + between·mean over present i ≠ j of K(z_i, z_j) + aggregate·mean over present i of K(u, z_i)
    K(x, z_i) of patient b = −ln( exp(cos(x_b, z_{b,i})/τ) / Σ_{b'} exp(cos(x_b, z_{b',i})/τ) )

The first contrast is between the modalities of a patient. The second ties the aggregate to its own patient, so that it
cannot become the same for all patients. b' runs over the patients of the step who have modality i, all of one site: the
added losses couple them. e_i, R and V are averaged with the rest of the model, so that a hospital without a modality
receives the embedding that other hospitals have trained.

Our choices where the paper defines nothing or addresses missing parts of one modality: whole modalities are absent;
reconstruction is linear; z_i is a constant in the loss of ẑ_i, so that features do not collapse; the three factors.

Shapes: B patients, m modalities, D width.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.config import NonNegative, Positive
from remind.fusion.base import Context, FusionModel, FusionOptions, FusionOutput, registry
from remind.fusion.layers import modality_means


class FedMACOptions(FusionOptions):
    """Factors of the added losses."""

    reconstruct: NonNegative = Field(0.1, description="factor of the squared error of reconstruction")
    between: NonNegative = Field(0.1, description="factor of the contrast between modalities of a patient")
    aggregate: NonNegative = Field(0.1, description="factor of the contrast of the aggregate with its modalities")
    temperature: Positive = Field(0.5, description="τ")


@registry.register(
    "fedmac",
    title="imputation embeddings for absent modalities, which weigh by how well the others reconstruct them",
    paper="Nguyen et al., FedMAC, arXiv 2410.03070",
    year=2024,
    options=FedMACOptions,
)
class FedMAC(FusionModel):
    """Both stages are the same; no parameter belongs to a group. The losses couple the patients of a step."""

    one_space = True

    def __init__(self, context: Context, options: FedMACOptions) -> None:
        super().__init__(context, options)
        width, modalities = context.width, len(context.modalities)
        self.options = options
        self.embedding_mD = nn.Parameter(torch.randn(modalities, width) * 0.02)
        self.reconstruct = Maps(modalities, width)
        self.value = Maps(modalities, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(context.dropout)
        self.head = nn.Linear(width, context.classes)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        h_BmD = modality_means(tokens)
        z_BmD = torch.where(presence_Bm.unsqueeze(2), h_BmD, self.embedding_mD.to(h_BmD.dtype))
        others = max(z_BmD.shape[1] - 1, 1)
        told_BmD = self.reconstruct((z_BmD.sum(dim=1, keepdim=True) - z_BmD) / others).to(z_BmD.dtype)
        fit_Bm = functional.cosine_similarity(told_BmD, z_BmD, dim=2) / self.options.temperature
        u_BD = (fit_Bm.softmax(dim=1).unsqueeze(2) * self.value(z_BmD)).sum(dim=1)
        logits_BC = self.head(self.dropout(self.norm(u_BD)))
        return FusionOutput(logits_BC, auxiliary_B=self._added(z_BmD, told_BmD, u_BD, presence_Bm))

    def _added(self, z_BmD: Tensor, told_BmD: Tensor, u_BD: Tensor, presence_Bm: Tensor) -> Tensor | None:
        """Return the added losses of each patient, (B,); None outside training."""
        if not self.training:
            return None
        error_Bm = (told_BmD - z_BmD.detach()).square().mean(dim=2)
        contrast_Bmm = self._contrast(z_BmD, z_BmD, presence_Bm)
        pair_Bmm = presence_Bm.unsqueeze(2) & presence_Bm.unsqueeze(1)
        pair_Bmm = pair_Bmm & ~torch.eye(presence_Bm.shape[1], dtype=torch.bool, device=pair_Bmm.device)
        contrast_Bm = self._contrast(u_BD.to(z_BmD.dtype).unsqueeze(1), z_BmD, presence_Bm).squeeze(1)
        own = self.options
        return (
            own.reconstruct * _mean(error_Bm, presence_Bm)
            + own.between * _mean(contrast_Bmm.flatten(1), pair_Bmm.flatten(1))
            + own.aggregate * _mean(contrast_Bm, presence_Bm)
        )

    def _contrast(self, x_BkD: Tensor, z_BmD: Tensor, presence_Bm: Tensor) -> Tensor:
        """Return K for each of k vectors of a patient and each modality, (B, k, m); undefined for absent ones."""
        x_BkD, z_BmD = functional.normalize(x_BkD, dim=2), functional.normalize(z_BmD, dim=2)
        score_BkmB = torch.einsum("bkd,cmd->bkmc", x_BkD, z_BmD) / self.options.temperature
        own_Bkm = torch.einsum("bkd,bmd->bkm", x_BkD, z_BmD) / self.options.temperature
        has_mB = presence_Bm.T
        nobody_m1 = ~has_mB.any(dim=1, keepdim=True)  # no patient has the modality: finite, never counted
        return score_BkmB.masked_fill(~(has_mB | nobody_m1), -torch.inf).logsumexp(dim=3) - own_Bkm


class Maps(nn.Module):
    """A linear map of each modality's vector."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.weight_mDD = nn.Parameter(torch.randn(modalities, width, width) * width**-0.5)
        self.bias_mD = nn.Parameter(torch.zeros(modalities, width))

    def forward(self, x_BmD: Tensor) -> Tensor:
        """Map (B, m, D) → (B, m, D)."""
        return torch.einsum("bmd,mde->bme", x_BmD, self.weight_mDD) + self.bias_mD


def _mean(x: Tensor, counts: Tensor) -> Tensor:
    """Return each row's mean over the entries that count; 0 if no entry counts."""
    return torch.where(counts, x, 0.0).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
