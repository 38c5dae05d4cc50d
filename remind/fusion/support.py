"""Tokens of other patients for methods that retrieve: only training patients of the same site.

Anything else would move patients' data between hospitals. A pool is not part of a model: it is neither a parameter nor
a buffer, so no message and no checkpoint can contain it.

Shapes: N training patients of the site, R of them who support, P patients who ask, n supporting patients each,
B patients of a step, k patients whom one that asks may not get, m modalities, l tokens, D width.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import override

from remind.groups import members
from remind.seeds import derive


class Support(Protocol):
    """Where supporting patients' tokens come from."""

    def draw(self, group: int, modality: int, patients: int, fixed: bool, barred_Pk: Tensor | None = None) -> Tensor:
        """Tokens of `modality` of supporting patients of `group`, (P, n, l, D).

        Parameters
        ----------
        group
            mc, the modalities that the asking patients have. Supporting is who has these and `modality`.
        modality
            T, position of the modality the asking patients lack.
        patients
            P. Each asks for n = |mc| supporting patients, drawn without replacement; fewer where fewer exist, or none.
        fixed
            The same patients at every call and for everyone who asks: evaluation. Otherwise a new draw for each.
        barred_Pk
            Rows of patients whom each may not get; -1: nobody. Only where the draw is not fixed. Everyone gets as many
            as the patient gets who has the fewest to choose from.
        """

    def patients(self, number: int) -> tuple[list[Tensor], Tensor]:
        """Tokens (R, l_i, D) of each modality, and presence (R, m), of at most `number` patients: always the same."""


class TokenPool(Support):
    """`Support` over tokens in memory, as they lie in the cache of stage 2.

    Parameters
    ----------
    tokens
        One (N, l_i, D) tensor per modality.
    presence_Nm
        Which modalities each of them has, bool.
    seed
        Of the fixed draws.
    generator
        Of the others, wherever it lies; None: torch's own randomness, as of dropout.
    index_N
        Positions of the patients in the site's cohort; None: unknown, nobody of a step is in the pool.
    """

    def __init__(
        self,
        tokens: Sequence[Tensor],
        presence_Nm: Tensor,
        seed: int,
        generator: torch.Generator | None = None,
        index_N: Tensor | None = None,
    ) -> None:
        self._tokens = [z_NlD.detach() for z_NlD in tokens]
        self._presence_Nm, self._index_N = presence_Nm, index_N
        self.seed, self._generator = seed, generator
        self._supporting: dict[tuple[int, int], Tensor] = {}

    def rows(self, index_B: Tensor) -> Tensor:
        """Return the rows of patients of a step in the pool, (B,); -1 of those who are not in it."""
        if self._index_N is None:
            return torch.full_like(index_B, -1)
        is_BN = index_B.to(self._index_N.device).unsqueeze(1) == self._index_N
        return torch.where(is_BN.any(dim=1), is_BN.long().argmax(dim=1), -1)

    @override
    def draw(self, group: int, modality: int, patients: int, fixed: bool, barred_Pk: Tensor | None = None) -> Tensor:
        row_R = self._rows(group, modality)
        number = min(len(members(group)), len(row_R))
        if fixed:
            own = torch.Generator().manual_seed(derive(self.seed, "support", group, modality))
            choice_n = torch.randperm(len(row_R), generator=own)[:number].to(row_R.device)
            choice_Pn = choice_n.expand(patients, number)
        else:
            place = row_R.device if self._generator is None else self._generator.device
            luck_PR = torch.rand(patients, len(row_R), device=place, generator=self._generator).to(row_R.device)
            choice_Pn = chosen(luck_PR, row_R, number, barred_Pk)
        return self._tokens[modality][row_R[choice_Pn]]

    def tensors(self) -> dict[str, Tensor]:
        """Return the pool by name, for a file that stays at the site: ``tokens.<i>`` and ``presence``."""
        return {f"tokens.{i}": z_NlD for i, z_NlD in enumerate(self._tokens)} | {"presence": self._presence_Nm}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], seed: int) -> "TokenPool":
        """Return the pool that `tensors` named."""
        tokens = [tensors[f"tokens.{i}"] for i in range(len(tensors) - 1)]
        return cls(tokens, tensors["presence"], seed)

    @override
    def patients(self, number: int) -> tuple[list[Tensor], Tensor]:
        own = torch.Generator().manual_seed(derive(self.seed, "patients"))
        row_R = torch.randperm(len(self._presence_Nm), generator=own)[:number].to(self._presence_Nm.device)
        presence_Rm = self._presence_Nm[row_R]
        seen = [torch.where(presence_Rm[:, i, None, None], z[row_R], 0.0) for i, z in enumerate(self._tokens)]
        return seen, presence_Rm

    def _rows(self, group: int, modality: int) -> Tensor:
        """Positions of the patients with all of `group` and `modality`, ascending."""
        key = (group, modality)
        if key not in self._supporting:
            needed = [*members(group), modality]
            self._supporting[key] = self._presence_Nm[:, needed].all(dim=1).nonzero().squeeze(1)
        return self._supporting[key]


class StepSupport(Support):
    """`Support` of the patients of a step for each other: their tokens carry gradient to the encoders.

    Parameters
    ----------
    tokens
        One (B, l_i, D) tensor per modality.
    presence_Bm
        Which modalities each of them shows; what is hidden from the model supports nobody.
    """

    def __init__(self, tokens: Sequence[Tensor], presence_Bm: Tensor) -> None:
        self._tokens, self._presence_Bm = tokens, presence_Bm

    @override
    def draw(self, group: int, modality: int, patients: int, fixed: bool, barred_Pk: Tensor | None = None) -> Tensor:
        needed = [*members(group), modality]
        row_R = self._presence_Bm[:, needed].all(dim=1).nonzero().squeeze(1)
        luck_PR = torch.rand(patients, len(row_R), device=row_R.device)
        choice_Pn = chosen(luck_PR, row_R, min(len(members(group)), len(row_R)), barred_Pk)
        return self._tokens[modality][row_R[choice_Pn]]

    @override
    def patients(self, number: int) -> tuple[list[Tensor], Tensor]:
        return list(self._tokens), self._presence_Bm


def chosen(luck_PR: Tensor, row_R: Tensor, number: int, barred_Pk: Tensor | None) -> Tensor:
    """Return the positions in `row_R` of the `number` luckiest of each row that are not barred, or fewer, (P, n)."""
    if barred_Pk is not None and number:
        barred_PR = (row_R[None, :, None] == barred_Pk.to(row_R.device)[:, None, :]).any(dim=2)
        luck_PR = luck_PR.masked_fill(barred_PR, -1.0)
        number = min(number, len(row_R) - int(barred_PR.sum(dim=1).max()))
    return luck_PR.topk(number, dim=1).indices
