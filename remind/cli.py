"""``remind``: commands of the library, and those that installed parts of the house add.

Another package adds a command through the entry-point group ``remind.commands`` (name = "module:function", a Typer
callback), so that the library never imports a coordinator or a hospital.
"""

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from remind.config import Config, Scalar
from remind.config_toml import to_toml
from remind.errors import UserError

app = typer.Typer(
    name="remind",
    help="Federated REMIND: one multimodal model across hospitals, fair to rare modality combinations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Look at a cohort, or make a synthetic one.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@app.callback()
def _root() -> None:
    """Keep `remind` a group of commands, however many there are."""


@app.command("config")
def show_config() -> None:
    """Print every setting with its default and what it means, as TOML."""
    print(to_toml(Config()), end="")


@data_app.command("check")
def check(
    cohort: Annotated[str, typer.Argument(help="A cohort folder, or its cohort.toml.")],
    root: Annotated[str, typer.Option(help="Folder of the files, where cohort.toml lies elsewhere.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report for machines.")] = False,
) -> None:
    """Say everything that is wrong with a cohort at once, and print its group table. Exit code 1 if anything is."""
    from remind.data.check import check_cohort

    report = check_cohort(cohort, root)
    print(report.to_json() if as_json else report.to_text(), end="\n" if as_json else "")
    if not report.ok:
        raise typer.Exit(1)


@data_app.command("synth")
def synthesise(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder for the cohort.")],
    patients: Annotated[int, typer.Option(help="Patients in all.")] = 4000,
    law: Annotated[str, typer.Option(help="fprm, embed, mimic-iv or independent.")] = "fprm",
    missing: Annotated[str, typer.Option(help="Law 'independent': Pr(modality i is missing), comma-separated.")] = "",
    interaction: Annotated[float, typer.Option(help="Share of the signal in products whose signs differ.")] = 0.7,
    noise: Annotated[float, typer.Option(help="Label noise, in standard deviations of the signal.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Write a synthetic cohort whose best fusion differs per modality combination."""
    from remind.data.synthetic import generate
    from remind.data.write import write_cohort

    values: dict[str, Scalar] = {"patients": patients, "law": law, "interaction": interaction, "noise": noise}
    values |= {"missing": missing} if missing else {}
    flat: dict[str, Scalar] = {f"synthetic.{key}": value for key, value in values.items()}
    config = Config.from_flat(flat | {"seed": seed}, "options")
    cohort = generate(config.synthetic, seed)
    write_cohort(cohort, folder)
    print(f"wrote {len(cohort)} patients to {folder}; look at it with: remind data check {folder}")


def main() -> None:
    """Run the command line; a user's mistake ends it with one message and exit code 1."""
    for entry in entry_points(group="remind.commands"):
        app.command(entry.name)(entry.load())
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
