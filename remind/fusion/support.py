"""Tokens of other patients for methods that retrieve: only training patients of the same site.

Patients of other sites would require sending patient data between hospitals. A pool is not part of a model: it is
neither a parameter nor a buffer, so that no message and no checkpoint can contain it.

Shapes: N training patients of the site, R of them who support, P requesting patients, n supporting patients each,
B patients of a step, k excluded patients each, m modalities, l tokens, D width.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import override

from remind.groups import members
from remind.seeds import derive


class Support(Protocol):
    """A source of supporting patients' tokens."""

    def draw(self, group: int, modality: int, patients: int, fixed: bool, barred_Pk: Tensor | None = None) -> Tensor:
        """Draw supporting patients of `group`, and return their tokens of `modality`, (P, n, l, D).

        Parameters
        ----------
        group
            mc, the modalities of the requesting patients. A supporting patient has all of these and `modality`.
        modality
            T, the position of the modality that the requesting patients lack.
        patients
            P. Each receives n = |mc| supporting patients, drawn without replacement; fewer if fewer exist, perhaps 0.
        fixed
            True: the same patients at every call and for every requesting patient (evaluation). False: a new draw for
            each.
        barred_Pk
            Rows of patients that each requesting patient must not receive; -1: none. Only if `fixed` is False. All
            receive equally many: as many as are available to the patient with the fewest.
        """

    def patients(self, number: int) -> tuple[list[Tensor], Tensor]:
        """Return tokens (R, l_i, D) by modality, and presence (R, m), of at most `number` patients, always the same."""


class TokenPool(Support):
    """`Support` over tokens in memory, in the format of stage 2's cache.

    Parameters
    ----------
    tokens
        One (N, l_i, D) tensor per modality.
    presence_Nm
        Which modalities each of these patients has, bool.
    seed
        Seed of the fixed draws.
    generator
        Generator of the other draws, on any device; None: torch's global generator, as for dropout.
    index_N
        Positions of the patients in the site's cohort; None: unknown, so that no patient of a step is in the pool.
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
        """Return the pool's rows of the patients of a step, (B,); -1 for a patient who is not in the pool."""
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
        """Return the pool's tensors by name, for a file that stays at the site: ``tokens.<i>`` and ``presence``."""
        return {f"tokens.{i}": z_NlD for i, z_NlD in enumerate(self._tokens)} | {"presence": self._presence_Nm}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], seed: int) -> "TokenPool":
        """Return the pool with these named tensors."""
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
        """Return the positions of the patients with all of `group` and with `modality`, in ascending order."""
        key = (group, modality)
        if key not in self._supporting:
            needed = [*members(group), modality]
            self._supporting[key] = self._presence_Nm[:, needed].all(dim=1).nonzero().squeeze(1)
        return self._supporting[key]


class StepSupport(Support):
    """`Support` among the patients of a step. Gradients flow through their tokens to the encoders.

    Parameters
    ----------
    tokens
        One (B, l_i, D) tensor per modality.
    presence_Bm
        Which modalities of each patient the model sees; hidden modalities are never used as support.
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
    """Return for each row the positions in `row_R` of the `number` largest draws that are not excluded, (P, n)."""
    if barred_Pk is not None and number:
        barred_PR = (row_R[None, :, None] == barred_Pk.to(row_R.device)[:, None, :]).any(dim=2)
        luck_PR = luck_PR.masked_fill(barred_PR, -1.0)
        number = min(number, len(row_R) - int(barred_PR.sum(dim=1).max()))
    return luck_PR.topk(number, dim=1).indices
