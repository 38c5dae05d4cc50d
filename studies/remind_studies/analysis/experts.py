"""Expert specialisation (the paper's Fig. 4): how often each expert is among the top three of a group's patients.

Shapes: B patients in a batch, N of a group, E experts.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.cohort import TRAIN
from remind_studies.analysis.document import ExpertUse
from remind_studies.analysis.hospitals import View

TOP = 3
Floats = NDArray[np.float64]


def expert_use(views: Sequence[View], few: int) -> ExpertUse | None:
    """Return the experts of all training patients; None if the model has no experts.

    Parameters
    ----------
    few
        Groups with fewer patients do not count in `ExpertUse.apart`.
    """
    groups, uses = [], []
    for view in views:
        for batch, output in view.outputs(view.engine.patients.index[TRAIN]):
            if output.use_BE is None:
                return None
            groups.append(batch.group_B.cpu().numpy())
            uses.append(output.use_BE.double().cpu().numpy())
    group_N, use_NE = np.concatenate(groups), np.concatenate(uses)
    of = {group: top_share(use_NE[group_N == group]) for group in np.unique(group_N).tolist()}
    n = {group: int((group_N == group).sum()) for group in of}
    return ExpertUse(
        experts=use_NE.shape[1],
        top=min(TOP, use_NE.shape[1]),
        n=n,
        of={group: tuple(share_E.tolist()) for group, share_E in of.items()},
        apart=apart({group: share_E for group, share_E in of.items() if n[group] >= few}),
    )


def top_share(use_NE: Floats) -> Floats:
    """Share of the patients for whom expert e is among the `TOP` of most weight, (E,).

    Parameters
    ----------
    use_NE
        Mean weight of each expert over a patient's tokens (`FusionOutput.use_BE`). An expert of no weight is among
        nobody's; of equals the first counts.
    """
    n, experts = use_NE.shape
    best_NT = np.argsort(-use_NE, axis=1, kind="stable")[:, :TOP]
    counted_NT = np.take_along_axis(use_NE, best_NT, axis=1) > 0
    share_E: Floats = np.bincount(best_NT[counted_NT], minlength=experts) / n
    return share_E


def apart(share_of: Mapping[int, Floats]) -> float | None:
    """Average over pairs of groups the total variation distance between their distributions over experts.

    0: all groups use the same experts alike; 1: no two groups share one. None for fewer than two groups that use any.
    """
    laws = [share_E / share_E.sum() for share_E in share_of.values() if share_E.sum() > 0]
    distances = [float(np.abs(a - b).sum() / 2) for a, b in combinations(laws, 2)]
    return float(np.mean(distances)) if distances else None
