"""Layers as loops over single vectors, the reference for the tensors of the fusion models."""

from typing import Any

import torch
from torch import Tensor


def loop_linear(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    """A linear layer, written out."""
    out = torch.stack([(row * x).sum() for row in layer.weight])
    return out if layer.bias is None else out + layer.bias


def loop_norm(layer: torch.nn.LayerNorm, x: Tensor) -> Tensor:
    """Layer normalisation of one vector, written out."""
    centred = x - x.sum() / len(x)
    return centred / ((centred * centred).sum() / len(x) + layer.eps).sqrt() * layer.weight + layer.bias


def loop_gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def loop_softmax(x: Tensor) -> Tensor:
    raised = (x - x.max()).exp()
    return raised / raised.sum()


def loop_perceptron(network: Any, x: Tensor) -> Tensor:
    """`layers.perceptron` for one vector, without dropout."""
    return loop_linear(network[3], loop_gelu(loop_linear(network[0], x)))


def loop_head(hidden: Any, head: torch.nn.Linear, x: Tensor) -> Tensor:
    """`layers.hidden_layer` and a linear head for one vector, without dropout."""
    return loop_linear(head, loop_gelu(loop_linear(hidden[0], x)))


def loop_expert(experts: Any, e: int, x: Tensor) -> Tensor:
    """One expert of `soft_moe.Experts` on one vector."""
    hidden = loop_gelu(x @ experts.w1_EDH[e] + experts.b1_EH[e])
    return hidden @ experts.w2_EHD[e] + experts.b2_ED[e]


def loop_attention(layer: Any, x_MD: Tensor) -> Tensor:
    """Multi-head attention over the tokens of one patient, token by token and head by head."""
    width = x_MD.shape[1]
    size = width // layer.heads
    qkv = torch.stack([loop_linear(layer.qkv, x) for x in x_MD])
    mixed = torch.zeros_like(x_MD)
    for h in range(layer.heads):
        at = slice(h * size, (h + 1) * size)
        query, key, value = qkv[:, at], qkv[:, width:][:, at], qkv[:, 2 * width :][:, at]
        for a in range(len(x_MD)):
            weight = loop_softmax(torch.stack([(query[a] * k).sum() / size**0.5 for k in key]))
            mixed[a, at] = sum(w * v for w, v in zip(weight, value, strict=True))
    return torch.stack([loop_linear(layer.out, x) for x in mixed])


def loop_top_k(score: Tensor, k: int) -> dict[int, Tensor]:
    """Expert → weight: the k best, their scores renormalised."""
    best = sorted(range(len(score)), key=lambda e: -score[e].item())[:k]
    weight = loop_softmax(torch.stack([score[e] for e in best]))
    return dict(zip(best, weight, strict=True))


def loop_layer(layer, z_MD):
    z_MD = z_MD + loop_attention(layer.attention, torch.stack([loop_norm(layer.attention_norm, z) for z in z_MD]))
    return torch.stack([z + loop_perceptron(layer.mlp, loop_norm(layer.mlp_norm, z)) for z in z_MD])
