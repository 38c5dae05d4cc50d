"""The command ``remind predict``, and what ``remind-site predict`` shares with it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remind.cli_options import Quiet
from remind.errors import UserError

if TYPE_CHECKING:
    from remind.data.cohort.verdicts import Memory
    from remind.prediction.predictor import Predictor

Out = Annotated[Path | None, typer.Option(help="A new .csv or .parquet file; without it the table is printed as .csv.")]
Least = Annotated[
    int, typer.Option(min=0, help="Training patients of a combination below which its predictions are not trusted.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Root = Annotated[str, typer.Option(help="Folder of the files, where cohort.toml lies elsewhere.")]
NewCohort = Annotated[str, typer.Option("--cohort", help="A cohort folder of new patients, or its cohort.toml.")]
LEAST = 30


def predict_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The results folder of a run, with its model.")],
    cohort: NewCohort,
    site: Annotated[
        str | None,
        typer.Option(help="Hospital whose encoders to use; default: the cohort's site column, or the only one."),
    ] = None,
    out: Out = None,
    least: Least = LEAST,
    device: Device = "auto",
    root: Root = "",
    quiet: Quiet = False,
) -> None:
    """Predict for the patients of a cohort: one row each. Labels are not needed; any modality may be missing.

    A patient with a mistake in the data gets a row that says so, and the others are served. The table is about single
    patients: treat it as you treat the data.
    """
    from remind.prediction.predictor import load

    run_prediction(load(run, site, least=least, device=device), cohort, out, root, quiet)


def run_prediction(
    predictor: "Predictor", cohort: str, out: Path | None, root: str, quiet: bool, memory: "Memory | None" = None
) -> None:
    """Predict for a cohort folder, write the table, and say on stderr what there is to say.

    Raises
    ------
    UserError
        The cohort does not fit the model, or the table cannot be written.
    """
    from remind.prediction.output import Count, check_name, print_csv, write

    if out is not None:
        check_name(out)
    patients = predictor.open(cohort, root, memory)
    count = Count()
    parts = count.passing(predictor.stream(patients))
    if out is None:
        print_csv(parts)
    else:
        write(out, parts)
    for text in [*predictor.warnings, *patients.remarks, *predictor.units.suspected()]:
        print(f"warning: {text}", file=sys.stderr)
    if not quiet:
        print(f"{count}{f'; wrote {out}' if out else ''}", file=sys.stderr)
    if count.patients and not count.served:
        raise UserError("no patient could be served; column status says why")
