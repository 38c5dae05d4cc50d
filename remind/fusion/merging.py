"""Merging of experts of a trained Soft MoE: clusters of similarly used experts become one expert each.

As M-SMoE (Li et al., Merge, then compress, ICLR 2024, arXiv 2310.01334): experts with similar routing form a cluster;
the hidden units of each are permuted to match those of the cluster's most used expert; then parameters are averaged,
weighted by use. A merged expert has the weight of the m experts that it replaces: ln m is added to its logits where a
token's output is combined, and the gate uses the entropy of m equal experts. Merging identical experts changes nothing.

Shapes: L blocks, B patients, D width, E experts, S slots per expert, H hidden width of an expert, K merged experts.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Clusters = Sequence[Sequence[int]]
EXPERTS = ("w1_EDH", "b1_EH", "w2_EHD", "b2_ED")
TIMES = "log_times_E"


def similarity(use_BE: Tensor, phi_DES: Tensor) -> Tensor:
    """Return the similarity of experts, (E, E), 1 for equal ones: the mean of two measures from −1 to 1.

    They are the correlation of the experts' use over patients, and the cosine of their columns of the router. For an
    expert that all patients use equally, the result is the second measure only.
    """
    centred_EB = (use_BE - use_BE.mean(dim=0)).double().t()
    size_E = centred_EB.norm(dim=1)
    varies_E = size_E > 1e-9 * use_BE.abs().max()
    unit_EB = centred_EB / size_E.clamp_min(1e-300).unsqueeze(1)
    column_EX = torch.nn.functional.normalize(phi_DES.double().transpose(0, 1).flatten(1), dim=1)
    alike_EE, near_EE = unit_EB @ unit_EB.t(), column_EX @ column_EX.t()
    return torch.where(varies_E.unsqueeze(1) & varies_E, (alike_EE + near_EE) / 2, near_EE)


def clusters(similarity_EE: Tensor, number: int) -> list[list[int]]:
    """Divide the experts into `number` clusters by repeatedly joining the two with the largest mean similarity."""
    found = [[e] for e in range(len(similarity_EE))]
    near: NDArray[np.float64] = similarity_EE.cpu().numpy()
    while len(found) > number:
        pairs = [(a, b) for a in range(len(found)) for b in range(a + 1, len(found))]
        a, b = max(pairs, key=lambda pair: near[np.ix_(found[pair[0]], found[pair[1]])].mean())
        found[a] += found.pop(b)
    return sorted(sorted(cluster) for cluster in found)


def merged(tensors: Mapping[str, Tensor], found_L: Sequence[Clusters], use_LE: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the model with merged experts, under the same names.

    Parameters
    ----------
    tensors
        Tensors of the global model or of a hospital's model; tensors that belong to no expert stay unchanged.
    found_L
        Clusters of each block.
    use_LE
        Mean use of each expert over all patients, by block: the weights of the averages.
    """
    new = dict(tensors)
    weight_LKE = torch.stack([_weights(found, use_E) for found, use_E in zip(found_L, use_LE, strict=True)])
    for level, found in enumerate(found_L):
        block, weight_KE = f"fusion.blocks.{level}.", weight_LKE[level]
        new[block + "router.phi_DES"] = _averaged(tensors[block + "router.phi_DES"], weight_KE, 1)
        old = {name: tensors[f"{block}moe.experts.{name}"] for name in EXPERTS}
        aligned = _aligned(old, found, use_LE[level])
        new |= {f"{block}moe.experts.{name}": _averaged(aligned[name], weight_KE, 0) for name in EXPERTS}
        before_E = tensors.get(block + TIMES, torch.zeros(len(use_LE[level])))
        times = [before_E[list(cluster)].double().logsumexp(dim=0) for cluster in found]
        new[block + TIMES] = torch.stack(times).to(old["b2_ED"])
    for name, tensor in tensors.items():
        if name.endswith(("residual_LDES", "residual_mLDES")):
            axis = tensor.ndim - 4
            levels = [
                _averaged(part, weight_KE, axis + 1)
                for part, weight_KE in zip(tensor.unbind(axis), weight_LKE, strict=True)
            ]
            new[name] = torch.stack(levels, dim=axis)
        elif name.endswith("residual_right_LrX"):
            experts = weight_LKE.shape[2]
            parts = tensor.view(*tensor.shape[:2], experts, -1)
            levels = [_averaged(part, weight_KE, 1) for part, weight_KE in zip(parts, weight_LKE, strict=True)]
            new[name] = torch.stack(levels).flatten(2)
    return {name: tensor.contiguous() for name, tensor in new.items()}


def blocks_with_experts(tensors: Mapping[str, Tensor]) -> int:
    """Return L; 0 for a model without experts of this kind."""
    pattern = re.compile(r"fusion\.blocks\.\d+\.router\.phi_DES")
    return sum(1 for name in tensors if pattern.fullmatch(name))


def _weights(found: Clusters, use_E: Tensor) -> Tensor:
    """Return the weight of each expert in each merged expert, (K, E); rows sum to 1."""
    weight_KE = torch.zeros(len(found), len(use_E), dtype=torch.float64)
    for k, cluster in enumerate(found):
        use = use_E[list(cluster)].double().clamp_min(1e-12)
        weight_KE[k, list(cluster)] = use / use.sum()
    return weight_KE


def _averaged(tensor: Tensor, weight_KE: Tensor, axis: int) -> Tensor:
    """Return weighted means over the experts, which are on this axis."""
    moved: Tensor = torch.tensordot(weight_KE, tensor.double().cpu(), dims=([1], [axis]))
    return moved.movedim(0, axis).to(tensor.device, tensor.dtype)


def _aligned(old: Mapping[str, Tensor], found: Clusters, use_E: Tensor) -> dict[str, Tensor]:
    """Permute the hidden units of each expert so that they match those of the most used expert of its cluster."""
    from scipy.optimize import linear_sum_assignment  # takes half a second to import

    new = {name: tensor.clone() for name, tensor in old.items()}
    for cluster in found:
        first = max(cluster, key=lambda e: float(use_E[e]))
        for e in cluster:
            if e == first:
                continue
            fit_HH = old["w1_EDH"][first].double().t() @ old["w1_EDH"][e].double()
            fit_HH += torch.outer(old["b1_EH"][first], old["b1_EH"][e]).double()
            fit_HH += old["w2_EHD"][first].double() @ old["w2_EHD"][e].double().t()
            order = torch.from_numpy(linear_sum_assignment(fit_HH.cpu().numpy(), maximize=True)[1])
            new["w1_EDH"][e] = old["w1_EDH"][e][:, order]
            new["b1_EH"][e], new["w2_EHD"][e] = old["b1_EH"][e][order], old["w2_EHD"][e][order]
    return new
