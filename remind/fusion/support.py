"""Tokens of other patients for methods that retrieve: only training patients of the same site.

Anything else would move patients' data between hospitals. A pool is not part of a model: it is neither a parameter nor
a buffer, so no message and no checkpoint can contain it.

Shapes: N training patients of the site, R of them who support, P patients who ask, n supporting patients each,
m modalities, l tokens, D width.
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

    def draw(self, group: int, modality: int, patients: int, fixed: bool) -> Tensor:
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
    """

    def __init__(
        self, tokens: Sequence[Tensor], presence_Nm: Tensor, seed: int, generator: torch.Generator | None = None
    ) -> None:
        self._tokens = [z_NlD.detach() for z_NlD in tokens]
        self._presence_Nm = presence_Nm
        self.seed, self._generator = seed, generator
        self._supporting: dict[tuple[int, int], Tensor] = {}

    @override
    def draw(self, group: int, modality: int, patients: int, fixed: bool) -> Tensor:
        row_R = self._rows(group, modality)
        number = min(len(members(group)), len(row_R))
        if fixed:
            own = torch.Generator().manual_seed(derive(self.seed, "support", group, modality))
            choice_n = torch.randperm(len(row_R), generator=own)[:number].to(row_R.device)
            choice_Pn = choice_n.expand(patients, number)
        else:
            place = row_R.device if self._generator is None else self._generator.device
            luck_PR = torch.rand(patients, len(row_R), device=place, generator=self._generator)
            choice_Pn = luck_PR.topk(number, dim=1).indices.to(row_R.device)
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
