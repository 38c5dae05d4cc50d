"""Group residual routing (Eq. 7; algorithm §2.4, §4.2, §4.4–4.5): Φ = Φ_shared + Φ_k where the router is uncertain.

Shapes: B patients, M tokens, D width, E experts, S slots per expert, G groups in the batch.
"""

import math

import torch
from torch import Tensor, nn

from remind.config.model import Gate, RouterLogits
from remind.fusion.tracing import traced
from remind.privacy.tape import current_tape, per_patient


def routing_entropy(logits_BMES: Tensor, log_times_E: Tensor | None = None) -> Tensor:
    """Average over tokens and slots the entropy, in nats, of softmax_E: a token's distribution over experts, (B,).

    The entropy is per token, because the joint entropy of Eq. 8 does not detect confident routing. It is per slot, as
    in the paper's appendix: slot s of all experts gives one distribution (algorithm §4.2). With `log_times_E` = ln m, a
    merged expert counts as m equal experts.
    """
    logits_BXE = logits_BMES.transpose(2, 3).flatten(1, 2)
    if log_times_E is not None:
        log_BXE = (logits_BXE + log_times_E).log_softmax(dim=-1)
        return -(log_BXE.exp() * (log_BXE - log_times_E)).sum(dim=(1, 2)) / log_BXE.shape[1]
    log_BXE = logits_BXE.log_softmax(dim=-1)
    # Few passes over few tensors, because this costs much of the gate's time. log p is finite where p rounds to 0.
    return -(log_BXE.exp() * log_BXE).sum(dim=(1, 2)) / log_BXE.shape[1]


def routing_kl(logits_BMES: Tensor, log_times_E: Tensor | None = None) -> Tensor:
    """Average over tokens and slots KL(a token's distribution over experts ‖ uniform) = ln E − entropy, (B,)."""
    return most_entropy(logits_BMES, log_times_E) - routing_entropy(logits_BMES, log_times_E)


def most_entropy(logits_BMES: Tensor, log_times_E: Tensor | None = None) -> float | Tensor:
    """Return ln E, the largest entropy; with merged experts E is the number before merging."""
    return math.log(logits_BMES.shape[2]) if log_times_E is None else log_times_E.logsumexp(dim=0)


@torch.no_grad()
def gate_open(logits_BMES: Tensor, gate: Gate, threshold: float, log_times_E: Tensor | None = None) -> Tensor:
    """Return whether each patient's shared routing is uncertain enough for Φ_k, (B,) bool; without gradient.

    entropy: H > ξ·ln E. kl: KL < threshold. With E = 1 there is no uncertainty, and both gates stay closed.
    """
    batch = logits_BMES.shape[0]
    if gate in ("always", "never"):
        return torch.full((batch,), gate == "always", device=logits_BMES.device)
    if logits_BMES.shape[2] == 1 and log_times_E is None:
        return torch.zeros(batch, dtype=torch.bool, device=logits_BMES.device)
    if gate == "entropy":
        return routing_entropy(logits_BMES, log_times_E) > threshold * most_entropy(logits_BMES, log_times_E)
    return routing_kl(logits_BMES, log_times_E) < threshold


class Router(nn.Module):
    """Logits of tokens over slots from Φ_shared and, where the gate is open, from Φ_shared + Φ_k.

    cosine: L = s · normalize_D(x) · normalize_D(Φ), s learned, initially `scale`·√D. With s = 1 all slots would start
    almost equal, and the entropy gate could never close. raw: L = x · Φ.
    """

    taped = frozenset({"phi_DES", "scale"})

    def __init__(self, width: int, experts: int, slots: int, kind: RouterLogits = "cosine", scale: float = 1.0) -> None:
        super().__init__()
        self.kind = kind
        self.phi_DES = nn.Parameter(torch.randn(width, experts, slots) / math.sqrt(width))
        if kind == "cosine":
            self.scale = nn.Parameter(torch.tensor(scale * math.sqrt(width)))

    def forward(
        self,
        x_BMD: Tensor,
        residual_GDES: Tensor | None,
        row_B: Tensor | None,
        gate: Gate,
        threshold: float,
        log_times_E: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the router logits (B, M, E, S), and whether Φ_k was used for each patient, (B,) bool.

        Parameters
        ----------
        x_BMD
            Normalised tokens, the input of the experts.
        log_times_E
            ln m of merged experts, for the gate; None: no expert is merged.
        residual_GDES, row_B
            Φ_k of the G groups of the batch and each patient's row in it; None: shared routing only. Where Φ_k = 0 the
            logits equal the shared ones bit for bit, because they are the same batched product of the same numbers.
        """
        inverse_BM1 = x_BMD.norm(dim=-1, keepdim=True).clamp_min(1e-12).reciprocal() if self.kind == "cosine" else None
        open_B = torch.zeros(x_BMD.shape[0], dtype=torch.bool, device=x_BMD.device)
        if current_tape() is not None:
            own_BDES = None if residual_GDES is None or row_B is None else residual_GDES[row_B]
            return self._by_patient(x_BMD, inverse_BM1, own_BDES, gate, threshold, log_times_E)
        if residual_GDES is not None and row_B is not None and gate != "never":
            phi_GDX = self._columns(residual_GDES)
            open_B = self._open(x_BMD, inverse_BM1, phi_GDX[:1], gate, threshold, log_times_E)
            if traced() or open_B.any():
                own_BDX = phi_GDX.index_select(0, torch.where(open_B, 1 + row_B, 0))
                return self._logits(x_BMD, inverse_BM1, own_BDX), open_B
        shared_BDX = self._columns(None).expand(x_BMD.shape[0], -1, -1)
        return self._logits(x_BMD, inverse_BM1, shared_BDX), open_B

    def _by_patient(
        self,
        x_BMD: Tensor,
        inverse_BM1: Tensor | None,
        residual_BDES: Tensor | None,
        gate: Gate,
        threshold: float,
        log_times_E: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Compute the same as `forward` with one Φ per patient, so that its gradient is that of the patient."""
        patients = x_BMD.shape[0]
        phi_BDX = per_patient(self.phi_DES, patients).flatten(2)
        open_B = torch.zeros(patients, dtype=torch.bool, device=x_BMD.device)
        if residual_BDES is not None and gate != "never":
            with torch.no_grad():
                open_B = self._open(x_BMD, inverse_BM1, self._columns(None), gate, threshold, log_times_E)
            phi_BDX = phi_BDX + torch.where(open_B[:, None, None], residual_BDES.flatten(2), 0.0)
        if self.kind == "cosine":
            scale_B11 = per_patient(self.scale, patients)[:, None, None]
            phi_BDX = phi_BDX * (scale_B11 / phi_BDX.norm(dim=1, keepdim=True).clamp_min(1e-12))
        return self._logits(x_BMD, inverse_BM1, phi_BDX.expand(patients, -1, -1)), open_B

    def _columns(self, residual_GDES: Tensor | None) -> Tensor:
        """Return Φ_shared and Φ_shared + Φ_g, (1 + G, D, E·S); for cosine logits the columns have length s."""
        phi_GDX = self.phi_DES.flatten(1).unsqueeze(0)
        if residual_GDES is not None:
            phi_GDX = torch.cat([phi_GDX, phi_GDX + residual_GDES.flatten(2)])
        if self.kind == "raw":
            return phi_GDX
        norm_G1X: Tensor = phi_GDX.norm(dim=1, keepdim=True)
        return phi_GDX * (self.scale / norm_G1X.clamp_min(1e-12))

    @torch.no_grad()
    def _open(
        self,
        x_BMD: Tensor,
        inverse_BM1: Tensor | None,
        shared_1DX: Tensor,
        gate: Gate,
        threshold: float,
        log_times_E: Tensor | None,
    ) -> Tensor:
        """Return `gate_open` of the shared logits; the gate "always" does not need them."""
        if gate == "always":
            return torch.ones(x_BMD.shape[0], dtype=torch.bool, device=x_BMD.device)
        logits_BMES = self._logits(x_BMD, inverse_BM1, shared_1DX.expand(x_BMD.shape[0], -1, -1))
        return gate_open(logits_BMES, gate, threshold, log_times_E)

    def _logits(self, x_BMD: Tensor, inverse_BM1: Tensor | None, phi_BDX: Tensor) -> Tensor:
        """Return the product of each patient's tokens and its Φ, (B, M, E, S); cosine logits also use inverse norms.

        One product with the sum Φ_shared + Φ_k costs half as much as two products. It is batched even if all patients
        share Φ, because products of other shapes may round differently.
        """
        logits_BMX = torch.bmm(x_BMD, phi_BDX)
        if inverse_BM1 is not None:
            logits_BMX = logits_BMX * inverse_BM1
        return logits_BMX.view(*logits_BMX.shape[:2], *self.phi_DES.shape[1:])
