"""The same federated job in this project and in other frameworks, beside a plain PyTorch loop, in one run.

    python benchmarks/peers.py --sites 5 50
    python benchmarks/peers.py --sites 500 --rounds 3 --only plain ours pfl --json peers.json

FedAvg of a Soft MoE on four tables: same module, patients, batches and seeds (`peers/job.py`). Candidates: `plain`, the
loop; `ours`, this project in one process (`remind simulate`); `ours-ray`, this project under Flower's Ray backend;
`flower`, Flower's FedAvg on Ray; `nvflare`, NVFlare's simulator; `pfl`, pfl-research. The last two get an environment
of their own, made with `python -m venv` when they are first asked for.

Seconds of a round are the median, without the first, which pays for the start. Processor seconds are those of all the
candidate's processes, and do not depend on what else the machine does. Memory is the peak of the whole tree of
processes, shared pages counted once. A candidate whose final loss is not that of the plain loop is marked.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peers.environments import FOLDER, python_of
from peers.job import Job, Record, written
from peers.measure import FailedError, Measured, figures, run

HERE = Path(__file__).resolve().parent
PLAIN = "plain"
TOLERANCE = 1e-4  # of the final loss, relative: sums of floats in another order
CANDIDATES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    PLAIN: ("plain", ()),
    "ours": ("ours", ()),
    "ours-ray": ("ours", ("ray",)),
    "flower": ("flower", ()),
    "nvflare": ("nvflare_simulator", ()),
    "pfl": ("pfl_research", ()),
}
OWN_ENVIRONMENT = ("nvflare", "pfl")


@dataclass(frozen=True)
class Result:
    """What became of a candidate: its figures and final loss, or why there are none."""

    sites: int
    name: str
    measured: Measured | None = None
    loss: float | None = None
    why: str = ""


def main() -> int:
    """Measure and print; 1 if a candidate's final loss is not that of the plain loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Job()
    parser.add_argument("--sites", type=int, nargs="+", default=[5, 50])
    for name in ("rounds", "steps", "batch", "patients", "width"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name))
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--limit", type=float, default=900, help="seconds after which a candidate is ended")
    parser.add_argument("--environments", type=Path, default=FOLDER, help="where the peers' environments are made")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--logs", type=Path, help="keep what the candidates print in this folder")
    given = parser.parse_args()
    if given.logs:
        given.logs.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    results = []
    for sites in given.sites:
        job = Job(sites, given.rounds, given.steps, given.batch, given.patients, given.width)
        found: dict[str, Result] = {}
        for name in given.only:
            found[name] = result_of(job, name, given.limit, given.environments, given.logs)
            print(f"{name}: {found[name].why or 'done'}", file=sys.stderr, flush=True)
        show(job, found)
        results += found.values()
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n", encoding="utf-8")
    return int(any(differs(one, [r for r in results if r.sites == one.sites]) for one in results))


def result_of(job: Job, name: str, limit: float, environments: Path, logs: Path | None) -> Result:
    """Run one candidate."""
    module, words = CANDIDATES[name]
    with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as place:
        record = Record(Path(place))
        log = Path(place) / "log" if logs is None else logs.resolve() / f"{name}-{job.sites}.log"
        try:
            python = str(python_of(name, environments)) if name in OWN_ENVIRONMENT else sys.executable
            command = [python, "-m", f"peers.{module}", written(job), place, *words]
            timeline, started = run(command, surroundings(job), log, limit)
            measured = figures(timeline, started, record.ends())
            return Result(job.sites, name, measured, job.loss(record.model()))
        except FailedError as error:
            return Result(job.sites, name, why=str(error))


def surroundings(job: Job) -> dict[str, str]:
    """Return the environment variables of every candidate: one thread of torch in each process, and no telemetry."""
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    return {"PYTHONPATH": path, "PEERS_JOB": written(job), "OMP_NUM_THREADS": "1", **quiet}


def differs(one: Result, beside: list[Result]) -> bool:
    """Return whether a final loss is not that of the plain loop."""
    plain = next((r.loss for r in beside if r.name == PLAIN), None)
    return one.loss is not None and plain is not None and abs(one.loss - plain) > TOLERANCE * plain


def show(job: Job, found: Mapping[str, Result]) -> None:
    """Print the table of one number of sites."""
    print(f"\n{job.sites} sites of {job.patients} patients, {job.rounds} rounds of {job.steps} steps of {job.batch}\n")
    print("| | s per round | CPU s per round | ÷ plain (CPU) | start, s | peak memory, MiB | final loss |")
    print("|---|---|---|---|---|---|---|")
    base = found[PLAIN].measured if PLAIN in found else None
    for name, one in found.items():
        if one.measured is None:
            print(f"| {name} | – | – | – | – | – | {one.why} |")
            continue
        m = one.measured
        ratio = f"{m.cpu_seconds / base.cpu_seconds:.2f}" if base else "–"
        wrong = " (not that of the plain loop)" if differs(one, list(found.values())) else ""
        print(
            f"| {name} | {m.seconds:.3g} | {m.cpu_seconds:.3g} | {ratio} | {m.start:.3g} | {m.peak / 2**20:.0f} "
            f"| {one.loss:.6f}{wrong} |",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
