"""The command ``remind analyze``."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from remind.cli_options import Quiet, printer
from remind.errors import UserError


def analyze_command(
    run: Annotated[
        Path | None, typer.Argument(help="Results folder of a simulation; or a cohort, to train first.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="softmoe: train it on the same patients; the results folder of a run; or none.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Evaluate the model every so many rounds of the training.")] = 2,
    final: Annotated[bool, typer.Option("--final", help="Evaluate only the final model; do not train again.")] = False,
    patients: Annotated[int, typer.Option(min=2, help="Patients of each group in the gradient consistency.")] = 32,
    whole_set: Annotated[
        str,
        typer.Option(
            help="Patients of g_all, with which groups' gradients are compared: groups (equally many of each group) or "
            "cohort (natural shares, dominated by head groups, as in the paper)."
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
        int | None, typer.Option(min=1, help="Suppress groups with fewer patients; default: 10, synthetic 1.")
    ] = None,
    merge_experts: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Instead: merge experts that patients use alike to this number, write the model to --out, and print "
            "what it costs each group.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Analyse one trained model: gradients, experts, λ, gate, entropy, and the value of each modality to each group.

    A stored run is trained again to evaluate the model during training; on one machine, runs repeat to the last bit.
    """
    say = printer(quiet, lambda text: print(text, file=sys.stderr, flush=True))
    if merge_experts is not None:
        from remind_studies.analysis.merge import merge_experts as merge

        others = (cohort, against, num_clients, run_config or None, final or None)
        if run is None or out is None or any(other is not None for other in others):
            raise UserError(
                "--merge-experts needs the results folder of a finished run and --out, a new folder; beside these it "
                "takes --min-count alone"
            )
        merge(run.expanduser(), merge_experts, out, min_count, say)
        return
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
        say=say,
    )
