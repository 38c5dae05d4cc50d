"""Shared by the commands of all packages: a cohort as argument or option, -h, --quiet, a version."""

import functools
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperArgument

from remind.errors import UserError


def _keep_descriptions_of_arguments() -> None:
    """Repair Typer before 0.21 with Click from 8.5 on: Click's initialiser empties the help that Typer has just set."""
    make = TyperArgument.__init__

    @functools.wraps(make)
    def make_and_describe(self: TyperArgument, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        self.help = options.get("help")

    TyperArgument.__init__ = make_and_describe  # type: ignore[method-assign]


_keep_descriptions_of_arguments()
HELP_NAMES: dict[str, Any] = {"help_option_names": ["-h", "--help"]}  # inherited by the commands of an app
SYNTHETIC = "synthetic"

CohortArgument = Annotated[
    str | None, typer.Argument(metavar="[COHORT]", help="A cohort folder, or its cohort.toml; --cohort says the same.")
]
CohortOption = Annotated[
    str | None, typer.Option("--cohort", metavar="COHORT", help="The same, as an option.", show_default=False)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress: warnings, errors and results alone.")]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Start even if the estimate says that this machine is too small.")
]


def one_cohort(argument: str | None, option: str | None) -> str | None:
    """Return the cohort that was given as argument or as option; None if none was given.

    Raises
    ------
    UserError
        Two different cohorts were given.
    """
    if argument is not None and option is not None and argument != option:
        raise UserError(f"{argument} and --cohort {option}: give one cohort")
    return option if argument is None else argument


def required_cohort(argument: str | None, option: str | None) -> str:
    """Return the cohort as `one_cohort` does; raise a UserError if none was given."""
    found = one_cohort(argument, option)
    if found is None:
        raise UserError("no cohort given: name its folder or its cohort.toml, as argument or with --cohort")
    return found


def version_option(name: str) -> Any:
    """Return the option ``--version`` of the program `name`."""

    def show(wanted: bool) -> None:
        if wanted:
            from remind.version import VERSION

            print(f"{name} {VERSION}")
            raise typer.Exit

    return typer.Option("--version", callback=show, is_eager=True, help="Print the version.")


def printer(quiet: bool, say: Callable[[str], None]) -> Callable[[str], None]:
    """Return `say`, or a function that prints nothing."""
    return (lambda text: None) if quiet else say
