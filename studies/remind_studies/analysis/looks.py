"""Evaluate a model once: the routing of each group's training patients, and the consistency of their gradients.

Shapes: B patients in a batch, n drawn patients of a group, E experts, C classes.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from remind.data.cohort.cohort import TRAIN
from remind.fusion.base import FusionModel
from remind.fusion.routing import Router, routing_entropy
from remind.groups import counts
from remind.seeds import derive
from remind_studies.analysis.document import Consistency, Look, Routing
from remind_studies.analysis.gradients import Jacobian, Tensors, cosine, leading_direction
from remind_studies.analysis.hospitals import Hospitals, View

Integers = NDArray[np.int64]
Drawn = Mapping[int, Sequence[tuple[int, Integers]]]  # group → (hospital's place, positions of its patients)
BLOCKS, GROUPS, HEAD = "blocks.", "groups.", "head."


@dataclass(frozen=True)
class Inspection:
    """Evaluates models of a run on its hospitals, always with the same patients drawn for gradients.

    `whole` are the patients of g_all; empty: all drawn patients, so that each group counts equally.
    """

    hospitals: Hospitals
    drawn: Drawn
    whole: Sequence[tuple[int, Integers]] = ()

    def at(self, tensors: Mapping[str, Tensor], rounds: int, routing: bool) -> Look:
        """Evaluate the model with these tensors of the coordinator, after this many rounds."""
        with self.hospitals.in_use(tensors, routing) as views:
            return Look(
                rounds=rounds,
                stage=2 if routing else 1,
                routing=_routing(views),
                consistency=_consistency(views, self.drawn, self.whole),
            )


def draw(hospitals: Hospitals, patients: int) -> tuple[Drawn, dict[int, int]]:
    """Draw `patients` training patients of each group over all hospitals; the draw depends only on the run's seed.

    Returns
    -------
    drawn
        Patients of the groups that have enough.
    left_out
        Every other group → its number of training patients.
    """
    drawn: dict[int, list[tuple[int, Integers]]] = {}
    left_out = {}
    for group, count in hospitals.counts().items():
        if count < patients:
            left_out[group] = count
            continue
        training = [(site.engine.patients.index[TRAIN], site.cohort.groups_N) for site in hospitals.sites]
        rows = [row_N[group_N[row_N] == group] for row_N, group_N in training]
        place_N = np.repeat(np.arange(len(rows)), [len(row_N) for row_N in rows])
        row_N = np.concatenate(rows)
        rng = np.random.default_rng(derive(hospitals.config.seed, "gradient consistency", group))
        chosen_n = np.sort(rng.choice(count, patients, replace=False))
        drawn[group] = [
            (place, row_N[chosen_n[place_N[chosen_n] == place]]) for place in np.unique(place_N[chosen_n]).tolist()
        ]
    return drawn, left_out


def draw_cohort(hospitals: Hospitals, patients: int) -> list[tuple[int, Integers]]:
    """Draw at most this many training patients in the groups' natural shares; the draw depends only on the seed."""
    rows = [site.engine.patients.index[TRAIN] for site in hospitals.sites]
    place_N = np.repeat(np.arange(len(rows)), [len(row_N) for row_N in rows])
    row_N = np.concatenate(rows)
    rng = np.random.default_rng(derive(hospitals.config.seed, "gradient consistency", "cohort"))
    chosen_n = np.sort(rng.choice(len(row_N), min(patients, len(row_N)), replace=False))
    return [(place, row_N[chosen_n[place_N[chosen_n] == place]]) for place in np.unique(place_N[chosen_n]).tolist()]


def by_group(hospitals: Hospitals, whole: Sequence[tuple[int, Integers]]) -> dict[int, int]:
    """Return how many of these patients are in each group."""
    return counts(np.concatenate([hospitals.sites[place].cohort.groups_N[row_n] for place, row_n in whole]))


def by_class(hospitals: Hospitals, drawn: Drawn) -> dict[int, tuple[int, ...]]:
    """Return the drawn patients of each group by class."""
    classes = len(hospitals.schema.classes)
    of_group = {}
    for group, found in drawn.items():
        label_n = np.concatenate([hospitals.sites[place].cohort.label_N[row_n] for place, row_n in found])
        of_group[group] = tuple(np.bincount(label_n, minlength=classes).tolist())
    return of_group


def block_names(fusion: nn.Module) -> list[str]:
    """Return the names of the parameters whose gradients are compared: the fusion parameters that all groups share.

    In a model with pre-norm blocks these are the parameters of the blocks; in other models all except the head. A
    group's own parameters are excluded. No two groups share them, so they would only make all cosines smaller.
    """
    names = [name for name, _ in fusion.named_parameters() if not name.startswith(GROUPS)]
    return [n for n in names if n.startswith(BLOCKS)] or [n for n in names if not n.startswith(HEAD)]


def true_logits(fusion: FusionModel, tokens_BMD: Tensor, batch: Any, routing: bool) -> Callable[[Tensors], Tensor]:
    """Return a function from the fusion model's parameters to the logit of each patient's true class, (B,).

    The scores of a site's own models are left out, since they are only added to the logits.
    """
    counts = list(fusion.context.tokens)
    parts = torch.split(tokens_BMD[:, : sum(counts)], counts, dim=1)

    def outputs(parameters: Tensors) -> Tensor:
        output = functional_call(fusion, parameters, (parts, batch.presence_Bm, batch.group_B, routing))
        true_B: Tensor = output.logits_BC.gather(1, batch.label_B.unsqueeze(1)).squeeze(1)
        return true_B

    return outputs


def _consistency(views: Sequence[View], drawn: Drawn, whole: Sequence[tuple[int, Integers]]) -> dict[int, Consistency]:
    """Return the score of each drawn group against the whole set, or against all drawn groups if there is none."""
    if not drawn or not block_names(views[0].engine.model.fusion):
        return {}
    pieces = {group: [_piece(views[place], row_n) for place, row_n in found] for group, found in drawn.items()}
    together = [_piece(views[place], row_n) for place, row_n in whole]
    everyone = leading_direction(Jacobian(together or [piece for found in pieces.values() for piece in found]))
    result = {}
    for group, found in pieces.items():
        own = leading_direction(Jacobian(found))
        result[group] = Consistency(
            score=cosine(own, everyone),
            singular=own.singular if own else 0.0,
            agreement=own.agreement if own else 0.0,
        )
    return result


def _piece(view: View, row_n: Integers) -> tuple[Callable[[Tensors], Tensor], Tensors]:
    """Return the output function of some patients of one hospital, and the values of its parameters."""
    ((batch, tokens_BMD),) = view.source.batches([row_n])
    fusion = view.engine.model.fusion
    at = {name: fusion.get_parameter(name).detach() for name in block_names(fusion)}
    return true_logits(fusion, tokens_BMD, batch, view.routing), at


def _routing(views: Sequence[View]) -> dict[int, Routing]:
    """Return gate and entropies of the training patients, averaged by group."""
    found: dict[str, list[NDArray[Any]]] = {"group": [], "open": [], "shared": [], "used": []}
    for view in views:
        with _recorded(view.engine.model.fusion) as heard:
            for batch, output in view.outputs(view.engine.patients.index[TRAIN]):
                nothing_B = torch.full((len(batch.group_B),), math.nan)
                open_B = nothing_B if output.open_B is None or not view.routing else output.open_B
                found["group"].append(batch.group_B.cpu().numpy())
                values = {"open": open_B, "shared": heard.pop("shared"), "used": heard.pop("used")}
                for name, value_B in values.items():
                    found[name].append((nothing_B if value_B is None else value_B).double().cpu().numpy())
    group_N, open_N, shared_N, used_N = (np.concatenate(found[name]) for name in ("group", "open", "shared", "used"))
    return {
        group: Routing(
            n=int((group_N == group).sum()),
            gate_open=_mean(open_N[group_N == group]),
            shared_entropy=_mean(shared_N[group_N == group]),
            entropy=_mean(used_N[group_N == group]),
        )
        for group in np.unique(group_N).tolist()
    }


class _Entropies:
    """Entropies of the Soft MoE routers in one forward pass, as shares of ln E; `pop` empties them."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {"shared": [], "used": []}

    def record(self, name: str, logits_BMES: Tensor) -> None:
        experts = logits_BMES.shape[2]
        if experts > 1:
            self._values[name].append(routing_entropy(logits_BMES.double()) / math.log(experts))

    def pop(self, name: str) -> Tensor | None:
        values, self._values[name] = self._values[name], []
        return torch.stack(values).mean(dim=0) if values else None


@contextmanager
def _recorded(fusion: nn.Module) -> Iterator[_Entropies]:
    """Record the entropies of a model's routers."""
    heard = _Entropies()

    def hook(router: nn.Module, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        shared_BMES, _ = router.forward(inputs[0], None, None, "never", 0.0)
        heard.record("shared", shared_BMES)
        heard.record("used", output[0])

    handles = [m.register_forward_hook(hook) for m in fusion.modules() if isinstance(m, Router)]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _mean(value_N: NDArray[Any]) -> float | None:
    value = float(value_N.mean())
    return None if math.isnan(value) else value
