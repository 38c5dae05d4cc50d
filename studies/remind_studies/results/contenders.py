"""List the rows of a panel: its arms. If an arm's runs evaluated several models, each model is a separate row."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from remind_studies.cells.cell import CellResult, Outcome
from remind_studies.study import Arm, Panel


@dataclass(frozen=True)
class Run:
    """The result of one cell, with its panel, arm and seed."""

    panel: str
    arm: str
    seed: int
    result: CellResult


@dataclass(frozen=True)
class Contender:
    """One row of a panel's table.

    Attributes
    ----------
    name, arm
        Its own name, and that of the arm whose runs measured it.
    place
        Where it was trained, if not in a federation (`study.Arm.place`).
    results, outcomes
        Of these runs, and what they measured of this model: by seed, ascending. Runs may measure no model at all.
    """

    name: str
    arm: str
    anchor: bool
    place: str
    results: Mapping[int, CellResult]
    outcomes: Mapping[int, Outcome]


def contenders(panel: Panel, runs: Iterable[Run]) -> tuple[Contender, ...]:
    """Return the rows of a panel, in the order of its arms, then of what their runs measured.

    A model that has a name is called "<arm>, <model>", or by its name alone where the panel has one arm.

    Raises
    ------
    ValueError
        A run of no arm of this panel, two runs of one arm and seed, or two rows of one name.
    """
    results: dict[str, dict[int, CellResult]] = {arm.name: {} for arm in panel.arms}
    for run in sorted((run for run in runs if run.panel == panel.name), key=lambda run: run.seed):
        before = results[run.arm].get(run.seed) if run.arm in results else None
        if run.arm not in results or (before is not None and len(panel.parts) == 1):
            raise ValueError(f"panel {panel.name!r}: no arm {run.arm!r}, or two runs of it with seed {run.seed}")
        results[run.arm][run.seed] = run.result if before is None else joined(before, run.result)
    found = tuple(row for arm in panel.arms for row in _rows(panel, arm, results[arm.name]))
    names = [row.name for row in found]
    if len(set(names)) < len(names):
        raise ValueError(f"panel {panel.name!r}: two rows of one name among {', '.join(names)}")
    return found


def joined(one: CellResult, other: CellResult) -> CellResult:
    """Return the result of two parts of a run, which tested different hospitals on models of the same names.

    Raises
    ------
    ValueError
        Both tested a hospital.
    """
    found = {outcome.name: outcome for outcome in one.outcomes}
    for more in other.outcomes:
        known = found.get(more.name, Outcome(name=more.name, test={}, validation={}))
        if twice := known.test.keys() & more.test.keys():
            raise ValueError(f"{more.name}: two parts of a run tested {sorted(twice)[0]!r}")
        test, validation = {**known.test, **more.test}, {**known.validation, **more.validation}
        found[more.name] = known.model_copy(update={"test": test, "validation": validation})
    return one.model_copy(
        update={"outcomes": tuple(found.values()), "seconds": one.seconds + other.seconds, "cell": one.cell}
    )


def reference(panel: Panel, rows: Iterable[Contender]) -> str:
    """Name of the row that the others are tested against; empty if there is none.

    The one that the panel names, or the first of the arm that it names; by default the first that is no anchor.
    """
    candidates = [row for row in rows if not row.anchor]
    named = [row for row in candidates if row.name == panel.reference]
    named += [row for row in candidates if row.arm == panel.reference]
    return next((row.name for row in (named if panel.reference else candidates)), "")


def _rows(panel: Panel, arm: Arm, results: Mapping[int, CellResult]) -> list[Contender]:
    alone, shown = len(panel.arms) == 1, panel.models
    models = list(dict.fromkeys(outcome.name for result in results.values() for outcome in result.outcomes))
    names = {model: model.removeprefix(shown) for model in models if model.startswith(shown)}
    return [
        Contender(
            name=(name if alone else f"{arm.name}, {name}") if name else arm.name,
            arm=arm.name,
            anchor=arm.anchor,
            place=arm.place,
            results=results,
            outcomes={seed: o for seed, result in results.items() for o in result.outcomes if o.name == model},
        )
        for model, name in (names or {"": ""}).items()
    ]
