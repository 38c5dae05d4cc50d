"""Layers that several fusion models share.

Shapes: B patients, M tokens in all, l_i tokens of modality i, m modalities, D width, H heads.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Masked multi-head self-attention over a patient's M tokens. It has no positions, so their order has no effect."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BMD: Tensor, seen_BM: Tensor | None = None) -> Tensor:
        """Map (B, M, D) → (B, M, D).

        No token attends to tokens with `seen_BM` False; the output of these tokens is undefined.
        """
        batch, tokens, width = x_BMD.shape
        qkv = self.qkv(x_BMD).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mask = None if seen_BM is None else seen_BM[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


class TransformerLayer(nn.Module):
    """Pre-norm: Z ← Z + MHA(LN Z); Z ← Z + MLP(LN Z)."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = perceptron(width, hidden, width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, z_BMD: Tensor, seen_BM: Tensor | None = None) -> Tensor:
        """Return the tokens after the layer; see `Attention` for `seen_BM`."""
        z_BMD = z_BMD + self.dropout(self.attention(self.attention_norm(z_BMD), seen_BM))
        out: Tensor = z_BMD + self.dropout(self.mlp(self.mlp_norm(z_BMD)))
        return out


def normed(width: int, *layers: nn.Module) -> nn.Sequential:
    """Return these layers after LN. Rules identify a normalisation layer by its name, ``norm``."""
    named = {str(number): layer for number, layer in enumerate(layers, start=1)}
    return nn.Sequential(OrderedDict[str, nn.Module](norm=nn.LayerNorm(width), **named))


def hidden_layer(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """Build dropout(gelu(W x + b))."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.GELU(), nn.Dropout(dropout))


def perceptron(inputs: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    """Build W2 dropout(gelu(W1 x + b1)) + b2."""
    return nn.Sequential(*hidden_layer(inputs, hidden, dropout), nn.Linear(hidden, outputs))


def modality_means(tokens: Sequence[Tensor]) -> Tensor:
    """Return the mean over the tokens of each modality, (B, m, D)."""
    return torch.stack([z_BlD.mean(dim=1) for z_BlD in tokens], dim=1)


def seen_tokens(presence_Bm: Tensor, counts: Sequence[int]) -> Tensor:
    """Return whether each token belongs to a modality that the patient has, (B, M) bool."""
    return torch.cat([presence_Bm[:, i : i + 1].expand(-1, count) for i, count in enumerate(counts)], dim=1)
