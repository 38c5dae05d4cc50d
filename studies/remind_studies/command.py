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
        str,
        typer.Argument(help="compare, ablate, …, optionally with options: 'extreme(share = 0.5)'; list prints all."),
    ],
    cohort: CohortArgument = None,
    cohort_option: CohortOption = None,
    methods: Annotated[str, typer.Option(help="Comma-separated, such as 'softmoe, remind+erm, fedavg, paper'.")] = "",
    seeds: Annotated[str, typer.Option(help="Number of seeds, or a list: '10', '0,1,5', '0-4'.")] = "",
    sites: Annotated[
        int | None, typer.Option("--sites", "--num-clients", min=2, help="Number of hospitals, if they are drawn.")
    ] = None,
    run_config: Annotated[
        list[str] | None, typer.Option("--run-config", "-c", help="Settings of every run, as for flwr run.")
    ] = None,
    metric: Annotated[
        str, typer.Option(help="Score to compare by: auroc, log_loss, mae, c_index, …; default: the outcome's first.")
    ] = "",
    tune: Annotated[int, typer.Option(min=0, help="Settings tried for each method; 0: as given.")] = 0,
    anchors: Annotated[bool, typer.Option(help="Each hospital alone and all patients in one place beside.")] = True,
    jobs: Annotated[int, typer.Option(min=0, help="Runs at a time; 0: one per core.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; default: results/STUDY-COHORT.")] = None,
    min_count: Annotated[
        int | None,
        typer.Option(min=1, help="Suppress groups and hospitals of fewer patients; default: 10, synthetic 1."),
    ] = None,
    quiet: Quiet = False,
    yes: Yes = False,
) -> None:
    """Compare methods with paired seeds, intervals and tests; write one self-contained report.

    `remind bench list` lists the studies. Without a cohort, patients are synthetic. To continue a study that was
    stopped, as with Ctrl-C, run the same command again.
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
        say("stopped: finished runs are kept; the same command continues")
        raise typer.Exit(INTERRUPTED) from None
