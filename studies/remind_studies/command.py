"""The command ``remind bench``."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer


def bench_command(
    study: Annotated[str, typer.Argument(help="compare, ablate, … perhaps with options: 'extreme(share = 0.5)'")],
    cohort: Annotated[str, typer.Option(help="A cohort folder or its cohort.toml.")] = "synthetic",
    methods: Annotated[str, typer.Option(help="Comma-separated, such as 'softmoe, remind+erm, fedavg'.")] = "",
    seeds: Annotated[str, typer.Option(help="How many, or which: '10', '0,1,5', '0-4'.")] = "",
    sites: Annotated[int | None, typer.Option(min=2, help="Hospitals, where they are drawn.")] = None,
    run_config: Annotated[
        list[str] | None, typer.Option("--run-config", "-c", help="Settings of every run, as for flwr run.")
    ] = None,
    metric: Annotated[str, typer.Option(help="auroc, balanced_accuracy, accuracy, macro_f1 or loss.")] = "auroc",
    tune: Annotated[int, typer.Option(min=0, help="Settings tried for each method; 0: as given.")] = 0,
    anchors: Annotated[bool, typer.Option(help="Each hospital alone and all patients in one place beside.")] = True,
    jobs: Annotated[int, typer.Option(min=0, help="Runs at a time; 0: one per core.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; default: results/STUDY-COHORT.")] = None,
) -> None:
    """Compare methods with certainty: paired seeds, intervals, one report that can be mailed.

    `remind bench list` lists the studies. A study that was stopped goes on where it was with the same command.
    """
    from remind_studies.bench import bench, listing

    if study == "list":
        print(listing())
        return
    bench(
        study,
        cohort=cohort,
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
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
