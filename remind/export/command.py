"""The command ``remind export``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remind.data.cohort.cohort import Cohort
from remind.errors import UserError

if TYPE_CHECKING:
    from remind.export.folder import Exported


def export_command(
    run: Annotated[Path, typer.Argument(help="Results folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    site: Annotated[str, typer.Option(help="Include the encoders of this hospital, which has agreed to it.")] = "",
    ranges: Annotated[
        bool, typer.Option("--ranges", help="With --site: include the ranges of its training values.")
    ] = False,
    hospital: Annotated[
        list[str] | None,
        typer.Option(
            help="A virtual hospital that the card may name; may be repeated. A real hospital agrees in its policy."
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option("--license", "--licence", help="Licence of the weights, e.g. apache-2.0.")
    ] = "unknown",
    intended_use: Annotated[str, typer.Option(help="Text of the card: the intended use of the model.")] = "",
    min_count: Annotated[
        int | None,
        typer.Option(min=1, help="Suppress numbers about fewer patients. Default: 10; 1 if all patients are made up."),
    ] = None,
) -> None:
    """Write a model as a folder for others: weights, config, model card, torch.export and ONNX programs."""
    from remind.export.card import Wishes
    from remind.export.folder import export_run
    from remind.prediction.bundle import read_bundle
    from remind.privacy.threshold import default_minimum

    if ranges and not site:
        raise UserError("--ranges needs --site: ranges belong to one hospital")
    bundle = read_bundle(run)
    real = bundle.config.data.cohort != "synthetic"
    named = tuple(hospital or ())
    known = _hospitals(run)
    if strangers := [name for name in named if name not in known]:
        raise UserError(f"--hospital {strangers[0]}: this hospital took no part in the run; {len(known)} others did")
    wishes = Wishes(min_count or default_minimum(real), site, ranges, named, licence, intended_use)
    say(export_run(run, out, wishes, _patients(run, known)))


def say(done: "Exported") -> None:
    """Print the written folder and the results of the checks."""
    for line in done.checked:
        print(f"checked: {line}")
    if done.not_exported:
        print(f"no program of the fusion model: {done.not_exported}")
    if done.lacking:
        lacking = ", ".join(done.lacking)
        print(f"each hospital has to add its own encoders of: {lacking} (it has them if it took part in the run)")
    print(f"wrote {done.folder}; read its README.md before you publish it")


def _hospitals(run: Path) -> tuple[str, ...]:
    from remind.export.facts import hospitals_of

    return hospitals_of(run)


def _patients(run: Path, hospitals: tuple[str, ...]) -> Mapping[str, Cohort]:
    """Return the patients of a simulation, by hospital; empty if they are not on this machine, as in a consortium."""
    from remind.prediction.bundle import read_bundle
    from remind.prediction.reference import patients_of_run

    bundle = read_bundle(run)
    if not bundle.parts:
        return {}
    try:
        return patients_of_run(bundle, len(hospitals))
    except UserError as error:
        print(f"note: the programs are checked on artificial patients: {error}")
        return {}
