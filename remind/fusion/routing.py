"""Group residual routing (Eq. 7; REMIND.md §2.4, §4.2, §4.4–4.5): Φ = Φ_shared + Φ_k, where the router is unsure.

Shapes: B patients, M tokens, D width, E experts, S slots per expert, G groups in the batch.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from remind.fusion.soft_moe import combine_weights

Gate = Literal["always", "entropy", "kl", "never"]


def routing_entropy(logits_BMES: Tensor) -> Tensor:
    """Mean over tokens of the entropy, in nats, of a token's distribution over experts, (B,).

    A token's probability of an expert is the sum over that expert's slots of its combine weights; with S = 1 this is
    softmax_E. Per token, not the joint entropy of Eq. 8, which cannot tell confident routing (§4.2).
    """
    experts_BME = combine_weights(logits_BMES).sum(dim=-1)
    entropy_BM: Tensor = torch.special.entr(experts_BME).sum(dim=-1)
    return entropy_BM.mean(dim=1)


def routing_kl(logits_BMES: Tensor) -> Tensor:
    """Mean over tokens of KL(a token's distribution over experts ‖ uniform) = ln E − entropy, (B,)."""
    return math.log(logits_BMES.shape[2]) - routing_entropy(logits_BMES)


@torch.no_grad()
def gate_open(logits_BMES: Tensor, gate: Gate, threshold: float) -> Tensor:
    """Whether each patient's shared routing is unsure enough for Φ_k, (B,) bool; carries no gradient.

    entropy: H > ξ·ln E. kl: KL < threshold. With E = 1 there is nothing to be unsure about and both stay shut.
    """
    batch = logits_BMES.shape[0]
    if gate in ("always", "never"):
        return torch.full((batch,), gate == "always", device=logits_BMES.device)
    if logits_BMES.shape[2] == 1:
        return torch.zeros(batch, dtype=torch.bool, device=logits_BMES.device)
    if gate == "entropy":
        return routing_entropy(logits_BMES) > threshold * math.log(logits_BMES.shape[2])
    return routing_kl(logits_BMES) < threshold


class Router(nn.Module):
    """Logits of tokens over slots from Φ_shared and, where the gate is open, from Φ_shared + Φ_k.

    cosine: L = s · normalize_D(x) · normalize_D(Φ), s learned, init √D: with s = 1 all slots start almost alike and
    the entropy gate could never close. raw: L = x · Φ.
    """

    def __init__(self, width: int, experts: int, slots: int, kind: Literal["cosine", "raw"] = "cosine") -> None:
        super().__init__()
        self.kind = kind
        self.phi_DES = nn.Parameter(torch.randn(width, experts, slots) / math.sqrt(width))
        if kind == "cosine":
            self.scale = nn.Parameter(torch.tensor(math.sqrt(width)))

    def forward(
        self, x_BMD: Tensor, residual_GDES: Tensor | None, row_B: Tensor | None, gate: Gate, threshold: float
    ) -> tuple[Tensor, Tensor]:
        """Router logits (B, M, E, S), and where Φ_k was used, (B,) bool.

        Parameters
        ----------
        x_BMD
            Normalised tokens, the input of the experts.
        residual_GDES, row_B
            Φ_k of the G groups at hand and each patient's row in it; None: shared routing only. Where Φ_k = 0 the
            logits equal the shared ones bit for bit: the residual adds an exact 0 before a norm taken alike for both.
        """
        if self.kind == "cosine":
            x_BMD = functional.normalize(x_BMD, dim=-1)
        product_BMES = torch.einsum("bmd,des->bmes", x_BMD, self.phi_DES)
        factor_GES = self._column_factor(residual_GDES)
        shared_BMES = product_BMES * factor_GES[0]
        open_B = gate_open(shared_BMES, gate if residual_GDES is not None else "never", threshold)
        if residual_GDES is None or row_B is None or not open_B.any():
            return shared_BMES, open_B
        patients, row = open_B.nonzero().squeeze(1), row_B[open_B]
        added_PMX = torch.bmm(x_BMD[patients], residual_GDES.flatten(2)[row])
        own_PMES = product_BMES[patients] + added_PMX.view(-1, *product_BMES.shape[1:])
        return shared_BMES.index_copy(0, patients, own_PMES * factor_GES[1 + row].unsqueeze(1)), open_B

    def _column_factor(self, residual_GDES: Tensor | None) -> Tensor:
        """s / ‖Φ‖ of every slot's column: row 0 for Φ_shared, row 1 + g for Φ_shared + Φ_g. Ones for raw logits."""
        phi_GDES = self.phi_DES.unsqueeze(0)
        if residual_GDES is not None:
            phi_GDES = torch.cat([phi_GDES, phi_GDES + residual_GDES])
        if self.kind == "raw":
            return torch.ones_like(phi_GDES[:, 0])
        norm_GES: Tensor = phi_GDES.norm(dim=1)
        return self.scale / norm_GES.clamp_min(1e-12)
