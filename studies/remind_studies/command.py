"""The command ``remind bench``."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from remind.cli_options import SYNTHETIC, CohortArgument, CohortOption, Quiet, Yes, one_cohort, printer

INTERRUPTED = 130  # exit code


def bench_command(
    study: Annotated[
        str, typer.Argument(help="compare, ablate, … perhaps with options: 'extreme(share = 0.5)'; list prints them.")
    ],
    cohort: CohortArgument = None,
    cohort_option: CohortOption = None,
    methods: Annotated[str, typer.Option(help="Comma-separated, such as 'softmoe, remind+erm, fedavg, paper'.")] = "",
    seeds: Annotated[str, typer.Option(help="How many, or which: '10', '0,1,5', '0-4'.")] = "",
    sites: Annotated[
        int | None, typer.Option("--sites", "--num-clients", min=2, help="Hospitals, where they are drawn.")
    ] = None,
    run_config: Annotated[
        list[str] | None, typer.Option("--run-config", "-c", help="Settings of every run, as for flwr run.")
    ] = None,
    metric: Annotated[
        str, typer.Option(help="Score to compare by: auroc, auprc, log_loss, brier, ece, accuracy, …")
    ] = "auroc",
    tune: Annotated[int, typer.Option(min=0, help="Settings tried for each method; 0: as given.")] = 0,
    anchors: Annotated[bool, typer.Option(help="Each hospital alone and all patients in one place beside.")] = True,
    jobs: Annotated[int, typer.Option(min=0, help="Runs at a time; 0: one per core.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; default: results/STUDY-COHORT.")] = None,
    min_count: Annotated[
        int | None,
        typer.Option(min=1, help="Tell nothing of groups and hospitals of fewer patients; default: 10, synthetic 1."),
    ] = None,
    quiet: Quiet = False,
    yes: Yes = False,
) -> None:
    """Compare methods with certainty: paired seeds, intervals, one report that can be mailed.

    `remind bench list` lists the studies. Without a cohort, patients are synthetic. A study that was stopped, as with
    Ctrl-C, goes on where it was with the same command.
    """
    from remind_studies.bench import bench, listing

    if study == "list":
        print(listing())
        return

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        bench(
            study,
            cohort=one_cohort(cohort, cohort_option) or SYNTHETIC,
            methods=methods,
            seeds=seeds,
            clients=sites,
            run_config=run_config or [],
            metric=metric,
            tune=tune,
            anchors=anchors,
            jobs=jobs,
            out=out,
            command=shlex.join(["remind", *sys.argv[1:]]),
            say=printer(quiet, say),
            min_count=min_count,
            yes=yes,
        )
    except KeyboardInterrupt:
        say("stopped: what was done is kept; the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
