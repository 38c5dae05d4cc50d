"""``remind``: the commands of the library, and those that other installed packages add.

Another package adds a command through the entry-point group ``remind.commands`` (name = "module:function", a Typer
callback or a Typer app of its own), so that the library never imports a coordinator or a hospital.
"""

import json
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from remind.backup.command import backup_command, restore_command
from remind.cli_options import HELP_NAMES, CohortArgument, CohortOption, required_cohort, version_option
from remind.config import Config, Scalar
from remind.config_toml import to_toml
from remind.data.importers.command import import_app
from remind.disk import disk_error, in_words
from remind.errors import UserError
from remind.export.command import export_command
from remind.prediction.command import predict_command
from remind.privacy.threshold import MIN_COUNT

app = typer.Typer(
    name="remind",
    help="Federated REMIND: one multimodal model across hospitals, fair to rare modality combinations.",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Check or describe a cohort, or create a synthetic one.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.command("export")(export_command)
data_app.add_typer(import_app, name="import")
app.command("predict")(predict_command)
app.command("backup")(backup_command)
app.command("restore")(restore_command)

Root = Annotated[str, typer.Option(help="Folder of the files, if cohort.toml is in another folder.")]
MinCount = Annotated[int, typer.Option(min=1, help="Suppress the numbers of groups with fewer patients.")]


@app.callback()
def _root(version: Annotated[bool, version_option("remind")] = False) -> None:
    """Federated REMIND: one multimodal model across hospitals, fair to rare modality combinations."""


@app.command("config")
def show_config(
    run_config: Annotated[
        list[str] | None,
        typer.Option("--run-config", "-c", help="Settings: 'train.lr=0.01 dro.gamma=0.1', a TOML file, or a preset."),
    ] = None,
    hospitals: Annotated[
        int | None, typer.Option(min=1, help="Hospitals that would take part; default: some numbers of them.")
    ] = None,
    patients: Annotated[int, typer.Option(min=0, help="Training patients of the smallest hospital, if known.")] = 0,
) -> None:
    """Print every setting with its value and meaning, as TOML; and, as comments, what privacy a run with them gives.

    Settings that exclude each other are refused, as by a run. Nothing is trained, sent or spent.
    """
    from remind.config_pairs import read_pairs
    from remind.presets import preset_files
    from remind.privacy_plan import SOME, delta_problem, plan_of, protections_text
    from remind.run_settings import notes, require_hospitals, require_settings

    config = Config.from_flat(read_pairs(run_config, "--run-config", preset_files()), "--run-config")
    require_settings(config)
    if hospitals is not None:
        require_hospitals(config, hospitals, "give --hospitals {}")
    plan = plan_of(config, SOME if hospitals is None else (hospitals,), patients)
    lines = ["Protections (docs/privacy.md):", *protections_text(), ""]
    lines += ["A run with these settings:", *(plan.lines() if plan else ["privacy.mode = none: no guarantee"])]
    if plan and (large := delta_problem("privacy.delta", config.privacy.delta, patients)):
        lines.append(f"warning: {large}")
    lines += [f"note: {note}" for note in notes(config)]
    print("".join(f"# {line}".rstrip() + "\n" for line in lines))
    print(to_toml(config), end="")


@app.command("methods")
def list_methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print the list for machines.")] = False,
) -> None:
    """List the fusion models, objectives and federated rules, each with its options and paper."""
    from remind.methods_list import as_text, listing

    found = listing()
    print(json.dumps(found, indent=2) if as_json else as_text(found), end="\n" if as_json else "")


@data_app.command("check")
def check(
    cohort: CohortArgument = None,
    cohort_option: CohortOption = None,
    root: Root = "",
    min_count: MinCount = MIN_COUNT,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Report all problems of a cohort at once, and print its group table. Exit code 1 if there are problems.

    The report counts single patients: treat it like the data.
    """
    from remind.data.checks.check import check_cohort

    report = check_cohort(required_cohort(cohort, cohort_option), root, min_count)
    print(report.to_json() if as_json else report.to_text(), end="\n" if as_json else "")
    if not report.ok:
        raise typer.Exit(1)


@data_app.command("describe")
def describe(
    cohort: CohortArgument = None,
    cohort_option: CohortOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path(),
    root: Root = "",
    min_count: MinCount = MIN_COUNT,
) -> None:
    """Draw the patients per group and site, as PNG and SVG, and print the tables.

    Counts below --min-count are suppressed, and further counts from which they could be computed.
    """
    from remind.data.checks.describe import describe_cohort
    from remind.data.checks.describe_plots import draw

    description = describe_cohort(required_cohort(cohort, cohort_option), root, min_count)
    print(description.to_text())
    for path in draw(description, out):
        print(f"wrote {path}")


@data_app.command("synth")
def synthesise(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder for the cohort.")],
    patients: Annotated[int, typer.Option(help="Patients in all.")] = 4000,
    law: Annotated[str, typer.Option(help="fprm, embed, mimic-iv, brats or independent.")] = "fprm",
    outcome: Annotated[str, typer.Option(help="What the label is; see docs/cohorts.md.")] = "classes",
    missing: Annotated[str, typer.Option(help="Law 'independent': Pr(modality i is missing), comma-separated.")] = "",
    interaction: Annotated[float, typer.Option(help="Share of the signal in products whose signs differ.")] = 0.7,
    noise: Annotated[float, typer.Option(help="Label noise, in standard deviations of the signal.")] = 0.3,
    kinds: Annotated[str, typer.Option(help="A kind per modality, comma-separated; see docs/cohorts.md.")] = "",
    size: Annotated[int, typer.Option(help="Pixels along a side of images, volumes and videos.")] = 32,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Write a synthetic cohort whose best fusion differs per modality combination."""
    from remind.data.synthetic.generate import generate
    from remind.data.synthetic.write import write_cohort

    values: dict[str, Scalar] = {"patients": patients, "law": law, "interaction": interaction, "noise": noise}
    values |= {"kinds": kinds, "size": size, "outcome": outcome}
    values |= {"missing": missing} if missing else {}
    flat: dict[str, Scalar] = {f"synthetic.{key}": value for key, value in values.items()}
    config = Config.from_flat(flat | {"seed": seed}, "options")
    cohort = generate(config.synthetic, seed)
    write_cohort(cohort, folder)
    print(f"wrote {len(cohort)} patients to {folder}; look at it with: remind data check {folder}")


@cache
def whole_app() -> typer.Typer:
    """Return `app` with the commands of other installed packages."""
    for entry in entry_points(group="remind.commands"):
        command = entry.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)
    return app


def main() -> None:
    """Run the command line. A user's mistake, or a full disk, ends it with one message and exit code 1."""
    try:
        whole_app()()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except Exception as error:
        if (full := disk_error(error)) is None:
            raise
        print(f"error: {in_words(full)}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
