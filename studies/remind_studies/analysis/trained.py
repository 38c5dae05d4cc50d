"""Provide the models for an analysis: of a stored run, with or without a second training, or of a new run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from remind.config import Config
from remind_server.outputs.run_folder import RunFolder
from remind_studies.analysis.document import Look, Replay, Weights, WholeSet
from remind_studies.analysis.hospitals import Hospitals
from remind_studies.analysis.looks import Inspection, by_class, by_group, draw, draw_cohort
from remind_studies.analysis.probe import Probe, routes
from remind_studies.analysis.stored import SITES, StoredRun, read_run

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
    """Options of the evaluations.

    Attributes
    ----------
    every
        Rounds between two evaluations during a repeated training; None: only the stored final model, without training.
    patients
        n of each group in the gradient consistency.
    whole_set
        Patients of g_all: "groups", n patients of each group; "cohort", equally many training patients in their natural
        shares, so that head groups dominate, as in the paper.
    """

    every: int | None
    patients: int
    whole_set: WholeSet = "groups"


@dataclass(frozen=True)
class Planned:
    """A run that will be trained.

    Attributes
    ----------
    number
        Number of hospitals; None: from the cohort's site column.
    folder
        Its results folder; None: it is not stored.
    """

    config: Config
    number: int | None
    folder: Path | None = None


@dataclass(frozen=True)
class Trained:
    """A trained model with its evaluations, valid as long as its hospitals' folders exist."""

    hospitals: Hospitals
    looks: Sequence[Look]
    drawn: dict[int, tuple[int, ...]]
    left_out: dict[int, int]
    whole: dict[int, int]
    tensors: Mapping[str, Tensor]
    weights: tuple[Weights, ...]
    replay: Replay | None


def trained(run: StoredRun | Planned, wish: Wish, say: Say, scratch: Path) -> Trained:
    """Return a model with its hospitals and its evaluations.

    Parameters
    ----------
    scratch
        An empty folder that outlives the result.

    Raises
    ------
    UserError
        The patients have changed; the run's folder is damaged; or the folder of a planned run contains a run already.
    """
    return _stored(run, wish, say, scratch) if isinstance(run, StoredRun) else _planned(run, wish, say, scratch)


def _stored(run: StoredRun, wish: Wish, say: Say, scratch: Path) -> Trained:
    """Return a finished run: its final model, or a repeated training with evaluations."""
    hospitals = run.hospitals(scratch, stored=wish.every is None)
    inspection, left_out, whole = _inspection(hospitals, wish)
    drawn = by_class(hospitals, inspection.drawn)
    tensors, rounds = run.tensors(), run.config.train.rounds
    if wish.every is None:
        say(f"{run.folder}: evaluating the final model")
        looks = [inspection.at(tensors, rounds, routes(run.config, rounds))]
        return Trained(hospitals, looks, drawn, left_out, whole, tensors, run.weights(), None)
    say(f"{run.folder}: training again, to evaluate the model during training")
    probe = Probe(inspection, wish.every, say)
    again = hospitals.train([probe]).tensors
    if not (replay := compare(again, tensors)).equal:
        say(
            f"  note: this training ended with another model than the stored one ({replay.differing} of "
            f"{replay.tensors} tensors differ), as it may on another machine. All that follows is of this training"
        )
    return Trained(hospitals, probe.looks, drawn, left_out, whole, again, run.weights(), replay)


def _planned(run: Planned, wish: Wish, say: Say, scratch: Path) -> Trained:
    """Return a new training, with evaluations."""
    folder = run.folder or scratch / "run"
    results = RunFolder(folder)
    say(f"training {run.config.method.fusion}" + (f" into {folder}" if run.folder else " on the same patients"))
    hospitals = Hospitals(run.config, run.number, folder / SITES)
    inspection, left_out, whole = _inspection(hospitals, wish)
    drawn = by_class(hospitals, inspection.drawn)
    probe = Probe(inspection, wish.every, say)
    tensors = hospitals.train([results, probe]).tensors
    return Trained(hospitals, probe.looks, drawn, left_out, whole, tensors, read_run(folder).weights(), None)


def _inspection(hospitals: Hospitals, wish: Wish) -> tuple[Inspection, dict[int, int], dict[int, int]]:
    """Return the inspection, the groups left out, and the patients of g_all by group."""
    drawn, left_out = draw(hospitals, wish.patients)
    if wish.whole_set == "groups" or not drawn:
        return Inspection(hospitals, drawn), left_out, dict.fromkeys(drawn, wish.patients)
    whole = draw_cohort(hospitals, wish.patients * len(drawn))
    return Inspection(hospitals, drawn, whole), left_out, by_group(hospitals, whole)


def compare(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Replay:
    """Return the difference of two models, to the last bit."""
    names = one.keys() | other.keys()
    both = one.keys() & other.keys()
    if comparable := len(both) == len(names) and all(one[n].shape == other[n].shape for n in both):
        differing = [n for n in names if not torch.equal(one[n].cpu(), other[n].cpu())]
        distances = [float((one[n].cpu().double() - other[n].cpu().double()).abs().max()) for n in differing]
    else:
        differing, distances = [n for n in names if n not in both or one[n].shape != other[n].shape], []
    largest = max(distances, default=0.0) if comparable else None
    return Replay(equal=not differing, tensors=len(names), differing=len(differing), largest=largest)
