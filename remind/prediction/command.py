"""The command ``remind predict``, and what ``remind-site predict`` shares with it."""

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

Out = Annotated[Path | None, typer.Option(help="A new .csv or .parquet file; without it the table is printed as .csv.")]
Least = Annotated[
    int, typer.Option(min=0, help="Training patients of a combination below which its predictions are not trusted.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Root = Annotated[str, typer.Option(help="Folder of the files, where cohort.toml lies elsewhere.")]
NewCohort = Annotated[str, typer.Option("--cohort", help="A cohort folder of new patients, or its cohort.toml.")]
LEAST, NEXT = 30, "--next-test"
NextOut = Annotated[
    Path | None,
    typer.Option(
        NEXT,
        help="A further new .csv or .parquet file: what each modality that a patient lacks is expected to change.",
    ),
]


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
    next_test: NextOut = None,
    reference: Annotated[
        str,
        typer.Option(help="With --next-test: a cohort to learn it from. Default: the run's own held-out patients."),
    ] = "",
    quiet: Quiet = False,
) -> None:
    """Predict for the patients of a cohort: one row each. Labels are not needed; any modality may be missing.

    A patient with a mistake in the data gets a row that says so, and the others are served. The table is about single
    patients: treat it as you treat the data.
    """
    from remind.prediction.predictor import load

    if reference and next_test is None:
        raise UserError("--reference goes with --next-test: it names the patients to learn from")
    check_names(out, next_test)
    predictor = load(run, site, least=least, device=device)
    tests = None
    if next_test is not None:
        from remind.prediction.next_test import NextTest
        from remind.prediction.reference import of_cohort, of_run

        known = of_cohort(predictor, reference) if reference else of_run(run, predictor.bundle)
        tests = NextTest(predictor, known), next_test
    run_prediction(predictor, cohort, out, root, quiet, tests=tests)


def run_prediction(
    predictor: "Predictor",
    cohort: str,
    out: Path | None,
    root: str,
    quiet: bool,
    memory: "Memory | None" = None,
    tests: "tuple[NextTest, Path] | None" = None,
) -> None:
    """Predict for a cohort folder, write the table, and say on stderr what there is to say.

    Parameters
    ----------
    tests
        What says what the next test would tell, and the file for it.

    Raises
    ------
    UserError
        The cohort does not fit the model, or the table cannot be written.
    """
    from remind.prediction.output import Count, print_csv, write, writing

    check_names(out, tests[1] if tests else None)
    patients = predictor.open(cohort, root, memory)
    count = Count()
    parts = count.passing(predictor.stream(patients))
    if tests is not None:
        parts = writing(tests[1], parts, tests[0].of, NEXT)
    if out is None:
        print_csv(parts)
    else:
        write(out, parts)
    for text in [*predictor.warnings, *patients.remarks, *predictor.units.suspected()]:
        print(f"warning: {text}", file=sys.stderr)
    if not quiet:
        files = " and ".join(str(path) for path in (out, tests[1] if tests else None) if path is not None)
        print(f"{count}{f'; wrote {files}' if files else ''}", file=sys.stderr)
    if count.patients and not count.served:
        raise UserError("no patient could be served; column status says why")


def check_names(out: Path | None, next_test: Path | None) -> None:
    """Refuse files that cannot be written, before anything is computed.

    Raises
    ------
    UserError
        Their names end otherwise, their folder is not there, one is there already, or both are one file.
    """
    from remind.prediction.output import check_name

    if out is not None:
        check_name(out)
        _require_new(out, "--out")
    if next_test is not None:
        check_name(next_test, NEXT)
        _require_new(next_test, NEXT)
        if out is not None and out.absolute() == next_test.absolute():
            raise UserError(f"{NEXT} {out}: is the file of --out too; they are two tables")


def _require_new(path: Path, option: str) -> None:
    """Refuse a file that is there: it may be somebody's data, and a table is never written over another one."""
    if path.exists():
        raise UserError(f"{option} {path}: is there already; name a new file, or remove that one")
