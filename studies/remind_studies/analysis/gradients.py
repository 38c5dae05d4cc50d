"""Gradient consistency (algorithm §6; Eq. 1, 9–13): whether groups pull the shared fusion function the same way.

    J (n, P): one row per patient, the gradient of the true class's logit;   K = J Jᵀ, with top eigenvector u
    g = Jᵀ u = σ₁ v₁, its sign such that g · mean row ≥ 0;   score of group k = cos(g_k, g_all)

J is never formed: K u takes one vector-Jacobian and one Jacobian-vector product. Power iteration repeats this product.
Lanczos' method (ARPACK) repeats the same product, keeps all iterates, and needs far fewer if σ₂ is close to σ₁.

Shapes: n patients, P parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor
from torch.func import vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

Tensors = dict[str, Tensor]
Outputs = Callable[[Tensors], Tensor]  # parameters → the n patients' outputs, (n,)
Vector = NDArray[np.float64]


class Jacobian:
    """J of patients with different functions: each hospital has its own function and values of the parameters.

    Parameters
    ----------
    parts
        Outputs of some of the n patients as a function of the parameters, and the parameters' values. Names and
        shapes of the parameters are the same in all parts.
    """

    def __init__(self, parts: Sequence[tuple[Outputs, Tensors]]) -> None:
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no second derivative
            found = [vjp(outputs, at)[:2] for outputs, at in parts]
            self._back = [back for _, back in found]
            # w ↦ Jᵀ w is linear, so its transpose J is the same function for every w. Unlike forward mode, this works
            # for all operations of fusion models, and needs no forward pass per product.
            self._forth = [vjp(lambda w_N, back=back: back(w_N)[0], values_N)[1] for values_N, back in found]
        self._counts = [len(values_N) for values_N, _ in found]
        self.like = found[0][0].detach()

    @property
    def rows(self) -> int:
        """n."""
        return sum(self._counts)

    def times(self, v: Tensors) -> Tensor:
        """Return J v, (n,): a Jacobian-vector product."""
        return torch.cat([forth(v)[0].detach() for forth in self._forth])

    def transposed_times(self, u_N: Tensor) -> Tensors:
        """Return Jᵀ u, in the parameters' shapes: a vector-Jacobian product."""
        pieces = zip(self._back, torch.split(u_N, self._counts), strict=True)
        found = [back(piece_N)[0] for back, piece_N in pieces]
        return {name: torch.stack([part[name] for part in found]).sum(dim=0).detach() for name in found[0]}


@dataclass(frozen=True)
class Direction:
    """The leading gradient direction of a set of patients.

    Attributes
    ----------
    g
        σ₁ v₁, in the parameters' shapes.
    singular
        σ₁.
    agreement
        |Σ u| / √n, the cosine of u and all ones: 1 if all gradients agree; near 0 the sign of g means little.
    """

    g: Tensors
    singular: float
    agreement: float


def leading_direction(jacobian: Jacobian) -> Direction | None:
    """Return g of these patients; None if all their gradients vanish.

    The sign needs no mean row: g · mean row = uᵀ K 1 / n = σ₁² Σu / n, so it is that of Σu.
    """
    n = jacobian.rows

    def tensor(u_N: Vector) -> Tensor:
        return torch.as_tensor(u_N.reshape(n), dtype=jacobian.like.dtype, device=jacobian.like.device)

    def ntk(u_N: Vector) -> Vector:
        product_N: Vector = jacobian.times(jacobian.transposed_times(tensor(u_N))).double().cpu().numpy()
        return product_N

    start_N = np.random.default_rng(0).standard_normal(n)  # not all ones: the patients' gradients may cancel
    if not ntk(start_N).any():
        return None
    u_N = _top_eigenvector(ntk, start_N, 1e-10 if jacobian.like.dtype == torch.float64 else 1e-5)
    if u_N.sum() < 0:
        u_N = -u_N
    g = jacobian.transposed_times(tensor(u_N))
    return Direction(g, norm(g), float(abs(u_N.sum()) / sqrt(n)))


def cosine(a: Direction | None, b: Direction | None) -> float | None:
    """Return the cosine of two directions; None if one is None."""
    if a is None or b is None:
        return None
    dot = sum(float((a.g[name].double() * b.g[name].double()).sum()) for name in a.g)
    return dot / (a.singular * b.singular)


def norm(tensors: Mapping[str, Tensor]) -> float:
    """Return the Euclidean norm of all entries together."""
    return sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors.values()))


def _top_eigenvector(ntk: Callable[[Vector], Vector], start_N: Vector, tolerance: float) -> Vector:
    """Return the unit eigenvector of the largest eigenvalue; from the full matrix if Lanczos does not converge."""
    n = len(start_N)
    if n == 1:
        return np.ones(1)
    operator = LinearOperator((n, n), matvec=ntk, dtype=np.float64)
    try:
        _, vectors_N1 = eigsh(operator, k=1, which="LA", v0=start_N, tol=tolerance)
    except ArpackNoConvergence:
        ntk_NN = np.stack([ntk(unit_N) for unit_N in np.eye(n)], axis=1)
        vectors_N1 = np.linalg.eigh((ntk_NN + ntk_NN.T) / 2)[1][:, -1:]
    u_N: Vector = vectors_N1[:, 0]
    return u_N / np.linalg.norm(u_N)
