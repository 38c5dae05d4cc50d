"""The pre-norm fusion block (algorithm §2.2): Z ← Z + MHA(LN Z); Z ← Z + SoftMoE(LN Z)."""

import torch
from torch import Tensor, nn

from remind.config import ModelConfig
from remind.config.model import Gate
from remind.fusion.experts import SoftMoE, combine_weights
from remind.fusion.layers import Attention
from remind.fusion.routing import Router


class RemindBlock(nn.Module):
    """Attention, then a Soft MoE whose router has a residual per group.

    ``log_times_E`` is ln m for merged experts (`fusion.merging`), None without merging.
    """

    log_times_E: nn.Parameter | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate: Gate = config.gate
        self.threshold = config.threshold
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads)
        self.moe_norm = nn.LayerNorm(config.width)
        self.router = Router(config.width, config.experts, config.slots, config.router, config.router_scale)
        self.moe = SoftMoE(config.experts, config.width, config.expansion * config.width)
        self.dropout = nn.Dropout(config.dropout)
        merged_E = nn.Parameter(torch.zeros(config.experts), requires_grad=False) if config.merged else None
        self.register_parameter("log_times_E", merged_E)

    def forward(
        self, z_BMD: Tensor, residual_GDES: Tensor | None = None, row_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens after the block (B, M, D), whether Φ_k was used (B,), and the use of each expert (B, E).

        See `Router.forward`. The use of an expert is the mean of its combine weights over a patient's tokens, without
        gradient. Rows sum to 1.
        """
        z_BMD = z_BMD + self.dropout(self.attention(self.attention_norm(z_BMD)))
        x_BMD = self.moe_norm(z_BMD)
        log_times_E = (
            None if self.log_times_E is None else self.log_times_E.detach()
        )  # merging sets it; training steps do not
        logits_BMES, open_B = self.router(x_BMD, residual_GDES, row_B, self.gate, self.threshold, log_times_E)
        use_BE = combine_weights(logits_BMES.detach(), log_times_E).sum(dim=-1).mean(dim=1)
        return z_BMD + self.dropout(self.moe(x_BMD, logits_BMES, log_times_E)), open_B, use_BE
