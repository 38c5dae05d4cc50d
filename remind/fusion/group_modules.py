"""The parameters of groups: one module per known group, and their tensors for a batch.

Shapes: B patients in a batch, G groups.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from remind.fusion.tracing import traced


class GroupModules(nn.ModuleDict):
    """Group (bitmask, as text) → the module of this group."""

    def known(self) -> tuple[int, ...]:
        """Return the groups that have their own parameters, in ascending order."""
        return tuple(sorted(int(key) for key in self))

    def in_batch(self, group_B: Tensor) -> tuple[list[int], Tensor]:
        """Return a list of groups that covers the batch, and each patient's position in this list, (B,).

        It lists the groups of the batch. While the model is traced it lists all known groups, then 0 for any other
        group, because the recorded operations must be valid for every batch.
        """
        if not traced():
            present, row_B = torch.unique(group_B, return_inverse=True)
            return present.tolist(), row_B
        known = self.known()
        if not known:
            return [0], torch.zeros_like(group_B)
        is_BG = group_B.unsqueeze(1) == torch.tensor(known, dtype=torch.int64, device=group_B.device)
        row_G = torch.arange(len(known), device=group_B.device)
        unknown_B = ~is_BG.any(dim=1)
        return [*known, 0], (is_BG.long() * row_G).sum(dim=1) + unknown_B.long() * len(known)

    def stacked(self, groups: Iterable[int], pick: Callable[[Any], Tensor | None], zero: Tensor) -> Tensor:
        """Return one tensor from each group's own parameters, stacked (G, …).

        Parameters
        ----------
        groups
            Known or unknown groups.
        pick
            Selects the tensor from the module of a group; None if that group has none.
        zero
            Used if no group has the tensor. If other groups have it, a group without it gets their mean
            (algorithm §4.10), without gradient: only a group's own patients train its parameters.
        """
        known = {k: tensor for k in self.known() if (tensor := pick(self[str(k)])) is not None}
        mean = torch.stack(list(known.values())).mean(dim=0).detach() if known else zero
        return torch.stack([known.get(group, mean) for group in groups])
