"""The command ``remind predict``, and the functions that ``remind-site predict`` shares with it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remind.cli_options import Quiet
from remind.errors import UserError

if TYPE_CHECKING:
    from remind.data.cohort.verdicts import Memory
    from remind.prediction.next_test import NextTest
    from remind.prediction.predictor import Predictor

Out = Annotated[Path | None, typer.Option(help="A new .csv or .parquet file. Default: print the table as .csv.")]
Least = Annotated[
    int, typer.Option(min=0, help="Flag predictions for a combination with fewer training patients than this.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Root = Annotated[str, typer.Option(help="Folder of the cohort's files, if cohort.toml is in another folder.")]
NewCohort = Annotated[str, typer.Option("--cohort", help="A cohort folder of new patients, or its cohort.toml.")]
LEAST, NEXT = 30, "--next-test"
NextOut = Annotated[
    Path | None,
    typer.Option(
        NEXT,
        help="A second new .csv or .parquet file: the change expected from each modality that a patient lacks.",
    ),
]
MasksOut = Annotated[
    Path | None,
    typer.Option("--masks", help="A new or empty folder for predicted masks, one NIfTI file per patient."),
]


def predict_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The results folder of a run, with its model.")],
    cohort: NewCohort,
    site: Annotated[
        str | None,
        typer.Option(help="Hospital whose encoders to use. Default: the cohort's site column, or the only hospital."),
    ] = None,
    out: Out = None,
    least: Least = LEAST,
    device: Device = "auto",
    root: Root = "",
    next_test: NextOut = None,
    reference: Annotated[
        str,
        typer.Option(help="With --next-test: a cohort of reference patients. Default: the run's held-out patients."),
    ] = "",
    masks: MasksOut = None,
    quiet: Quiet = False,
) -> None:
    """Predict for the patients of a cohort: one row each. Labels are not needed; any modality may be missing.

    A patient with a mistake in the data gets a row with the reason, and the others get predictions. The table
    describes single patients: protect it as you protect the data.
    """
    from remind.prediction.predictor import load

    if reference and next_test is None:
        raise UserError("--reference needs --next-test: it names the reference patients of that table")
    check_names(out, next_test)
    predictor = load(run, site, least=least, device=device)
    tests = None
    if next_test is not None:
        from remind.prediction.next_test import NextTest
        from remind.prediction.reference import of_cohort, of_run

        known = of_cohort(predictor, reference) if reference else of_run(run, predictor.bundle)
        tests = NextTest(predictor, known), next_test
    run_prediction(predictor, cohort, out, root, quiet, tests=tests, masks=masks)


def run_prediction(
    predictor: "Predictor",
    cohort: str,
    out: Path | None,
    root: str,
    quiet: bool,
    memory: "Memory | None" = None,
    tests: "tuple[NextTest, Path] | None" = None,
    masks: Path | None = None,
) -> None:
    """Predict for a cohort folder, write the table, and print warnings and counts on stderr.

    Parameters
    ----------
    tests
        The estimator of what each missing modality would change, and the file for its table.
    masks
        A new or empty folder for the predicted masks.

    Raises
    ------
    UserError
        The cohort does not fit the model, the model predicts no mask, or the table or a mask cannot be written.
    """
    from remind.prediction.output import Count, print_csv, write, writing

    check_names(out, tests[1] if tests else None)
    if masks is not None:
        from remind.prediction.masks import MaskFolder

        predictor.masks = MaskFolder(masks, predictor.schema)
    patients = predictor.open(cohort, root, memory)
    count = Count()
    parts = count.passing(predictor.stream(patients))
    if tests is not None:
        parts = writing(tests[1], parts, tests[0].of, NEXT)
    if out is None:
        print_csv(parts)
    else:
        write(out, parts)
    if predictor.masks is not None:
        predictor.masks.finish()
    for text in [*predictor.warnings, *patients.remarks, *predictor.units.suspected()]:
        print(f"warning: {text}", file=sys.stderr)
    if not quiet:
        files = " and ".join(str(path) for path in (out, tests[1] if tests else None) if path is not None)
        print(f"{count}{f'; wrote {files}' if files else ''}", file=sys.stderr)
    if count.patients and not count.served:
        raise UserError("no patient got a prediction; column status says why")


def check_names(out: Path | None, next_test: Path | None) -> None:
    """Check that the output files can be written, before anything is computed.

    Raises
    ------
    UserError
        A name has another ending, a folder does not exist, a file exists already, or both options name one file.
    """
    from remind.prediction.output import check_name

    if out is not None:
        check_name(out)
        _require_new(out, "--out")
    if next_test is not None:
        check_name(next_test, NEXT)
        _require_new(next_test, NEXT)
        if out is not None and out.absolute() == next_test.absolute():
            raise UserError(f"{NEXT} {out}: --out names the same file; the two tables need two files")


def _require_new(path: Path, option: str) -> None:
    """Refuse to overwrite a file, since it may contain somebody's data."""
    if path.exists():
        raise UserError(f"{option} {path}: the file exists already; name a new file, or remove this one")
