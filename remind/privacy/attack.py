"""The attack of a coordinator who holds candidate records, and asks which of them are in an update of a group.

It has the model, so it can compute the gradient g_i of the group's own parameters for each record that it holds. It is
sent y: a sum over the group's n patients at a hospital, what several steps made of it, or the sum with noise. Each
attack gives every candidate a score; the coordinator names the n candidates of the highest scores, since it knows n.

Nothing here knows of models: `remind_studies.cells.leakage` computes y and g_i with the code that hospitals run.

Shapes: N candidates, P numbers of the group's own parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import rankdata

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Attack = Callable[[Floats, Floats], Floats]  # y (P,) and g (N, P) → scores (N,)


def least_squares(seen_P: Floats, gradient_NP: Floats) -> Floats:
    """Return x ≥ 0 of the least ‖y − Σ x_i·g_i‖: the attack on an exact sum.

    Where y is such a sum and the candidates' gradients are linearly independent, x_i > 0 for the members alone.
    """
    scale = float(np.linalg.norm(gradient_NP, axis=1).max(initial=0.0)) or 1.0
    matrix_PN, target_P = gradient_NP.T / scale, seen_P / scale
    if len(target_P) > matrix_PN.shape[1]:  # the same problem in as many equations as there are candidates
        turned_PN, matrix_PN = np.linalg.qr(matrix_PN)
        target_P = turned_PN.T @ target_P
    found_N: Floats = nnls(matrix_PN, target_P, maxiter=30 * matrix_PN.shape[1])[0]
    return found_N


def inner_product(seen_P: Floats, gradient_NP: Floats) -> Floats:
    """Return ⟨y, g_i⟩: the attack on a sum with Gaussian noise, where the most powerful test of one patient is this."""
    scores_N: Floats = gradient_NP @ seen_P
    return scores_N


def cosine(seen_P: Floats, gradient_NP: Floats) -> Floats:
    """Return cos(y, g_i): the attack on what several steps of an optimiser made of the sum, whose size tells little."""
    length_N = np.linalg.norm(gradient_NP, axis=1) * np.linalg.norm(seen_P)
    cosines_N: Floats = inner_product(seen_P, gradient_NP) / np.maximum(length_N, np.finfo(np.float64).tiny)
    return cosines_N


@dataclass(frozen=True)
class Found:
    """How well an attack found the members among the candidates.

    Attributes
    ----------
    named
        Share of the n members that are among the n candidates named; by chance n/N.
    ranked
        Chance that a member has a higher score than another candidate (AUROC); by chance ½. NaN if all are members.
    """

    named: float
    ranked: float


def guessing(members: int, candidates: int) -> Found:
    """Return what somebody finds who names any n candidates."""
    return Found(members / candidates, 0.5)


def judge(score_N: Floats, member_N: Mask) -> Found:
    """Compare scores with who the members are; equal scores count as a draw among their candidates.

    Raises
    ------
    ValueError
        There is no member.
    """
    members = int(member_N.sum())
    if not members:
        raise ValueError("nobody is in the update, so that nobody can be found")
    least = np.sort(score_N)[-members]
    above_N, level_N = score_N > least, score_N == least
    share = (members - int(above_N.sum())) / int(level_N.sum())  # of those at the border who can still be named
    named = (int((above_N & member_N).sum()) + share * int((level_N & member_N).sum())) / members
    others = len(member_N) - members
    if not others:
        return Found(named, float("nan"))
    ranks = float(rankdata(score_N)[member_N].sum())
    return Found(named, (ranks - members * (members + 1) / 2) / (members * others))
