"""The command ``remind analyze``."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from remind.cli_options import Quiet, printer


def analyze_command(
    run: Annotated[
        Path | None, typer.Argument(help="Results folder of a simulation; or a cohort, to train first.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="softmoe: train it on the same patients; the results folder of a run; or none.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Rounds between two looks at the model in training.")] = 2,
    final: Annotated[bool, typer.Option("--final", help="Look at the final model alone; train nothing again.")] = False,
    patients: Annotated[int, typer.Option(min=2, help="Patients of each group in the gradient consistency.")] = 32,
    whole_set: Annotated[
        str,
        typer.Option(
            help="What groups' gradients are compared with: groups (each group alike) or cohort (training patients in "
            "their natural shares, which head groups dominate, as in the paper)."
        ),
    ] = "groups",
    out: Annotated[Path | None, typer.Option(help="Folder for the analysis; default: RUN/analysis.")] = None,
    cohort: Annotated[str | None, typer.Option(help="Train first, on a cohort folder or its cohort.toml.")] = None,
    num_clients: Annotated[
        int | None, typer.Option(min=1, help="With --cohort: hospitals; default: the cohort's sites, or 5.")
    ] = None,
    run_config: Annotated[
        list[str] | None, typer.Option("--run-config", "-c", help="With --cohort: settings, as for flwr run.")
    ] = None,
    min_count: Annotated[
        int | None, typer.Option(min=1, help="Suppress groups of fewer patients; default: 10, synthetic 1.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Look into one trained model: gradients, experts, λ, gate, entropy, and what each modality is worth to each group.

    A stored run is trained once more, to look at the model on its way; runs repeat to the last bit on one machine.
    """
    from remind_studies.analysis.request import analyze

    analyze(
        run,
        against=against,
        every=None if final else every,
        patients=patients,
        whole_set=whole_set,
        out=out,
        cohort=cohort,
        clients=num_clients,
        run_config=run_config or [],
        command=shlex.join(["remind", *sys.argv[1:]]),
        min_count=min_count,
        say=printer(quiet, lambda text: print(text, file=sys.stderr, flush=True)),
    )
