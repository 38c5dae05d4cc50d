"""The job in NVFlare: FedAvg on its simulator. This file is also the script that the simulator runs at each site."""

import json
import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

from peers.job import Job, Record, given, load, taken

NAME, STARTS = "job", "starts"
FINAL = "FL_global_model.pt"


def main(job: Job, record: Record) -> None:
    """Do the job."""
    from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
    from nvflare.recipe.sim_env import SimEnv

    (record.folder / STARTS).mkdir()
    recipe = FedAvgRecipe(
        name=NAME,
        model={"class_path": "peers.nvflare_simulator.Start", "args": {}},
        min_clients=job.sites,
        num_rounds=job.rounds,
        train_script=str(Path(__file__).resolve()),
        train_args=f"--site {record.folder.resolve()}",
    )
    threads = min(job.sites, os.cpu_count() or 1)
    recipe.execute(SimEnv(num_clients=job.sites, num_threads=threads, workspace_root=str(record.folder / "workspace")))
    (found,) = (record.folder / "workspace").rglob(FINAL)
    for round_ in range(1, job.rounds):  # a round ends when the next one reaches its first site
        record.round_done(min(float(one.read_text()) for one in (record.folder / STARTS).glob(f"{round_}-*")))
    record.round_done(found.stat().st_mtime)
    tensors = torch.load(found, weights_only=False)["model"]
    record.finish({name.removeprefix("model."): torch.as_tensor(t) for name, t in tensors.items()})


class Start(nn.Module):
    """The job's model, which the simulator's server makes from this class."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Job(**json.loads(os.environ["PEERS_JOB"])).model()


def site(job: Job, folder: Path) -> None:
    """Do the rounds of one site."""
    import nvflare.client as flare

    model = job.model()
    flare.init()
    number = int(flare.get_site_name().rpartition("-")[2]) - 1
    while flare.is_running():
        received = flare.receive()
        round_ = received.current_round
        (folder / STARTS / f"{round_}-{number}").write_text(str(time.time()))
        load(model, {name.removeprefix("model."): torch.as_tensor(t) for name, t in received.params.items()})
        loss, patients = job.train(model, number, round_)
        params = received.params | {f"model.{name}": t for name, t in taken(model).items()}
        meta = {"NUM_STEPS_CURRENT_ROUND": patients}
        flare.send(flare.FLModel(params=params, metrics={"loss": loss}, meta=meta))


if __name__ == "__main__":
    if "--site" in sys.argv:
        job_given, record_given = given([os.environ["PEERS_JOB"], sys.argv[-1]])
        site(job_given, record_given.folder)
    else:
        main(*given())
