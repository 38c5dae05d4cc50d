"""The prediction service compared with calling the Predictor: latency and throughput over a real socket.

    python benchmarks/serve_latency.py [--patients 1 32 256] [--repeats 30]

A model of the default size is trained for two rounds on the synthetic cohort (three tables and a series). Both predict
the same patients, in turns. Prints medians and their ratio, and patients per second of the service. The difference is
the service's own work: JSON, checks, the audit entry with its fsync, HTTP.
"""

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import uvicorn

from remind.config import Config
from remind.data.cohort.cohort import Cohort
from remind.data.cohort.kinds.series import Series
from remind.data.cohort.kinds.table import Table
from remind.data.sites.hospitals import virtual_hospitals
from remind.prediction.predictor import load
from remind.web.access import Access
from remind_client.app import client_app
from remind_client.audit.events import Predicted
from remind_client.audit.log import AuditLog
from remind_client.rounds.site import Site
from remind_client.serving.app import Files, Limits, serving_app
from remind_client.serving.model import ModelKeeper
from remind_client.serving.monitor import Monitor
from remind_client.serving.source import of_folder
from remind_client.store.site_store import SiteStore
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.strategy import FedRemind
from remind_server.simulation.local_grid import LocalGrid

SETTINGS = {"train.warmup-rounds": 1, "train.routing-rounds": 1, "train.local-steps": 2, "device": "cpu"}


def trained(folder: Path) -> dict[str, Cohort]:
    """Train for two rounds; returns the patients of each hospital."""
    config = Config.from_flat(SETTINGS)
    hospitals = virtual_hospitals(config.data, config.synthetic, config.seed, 2)
    cpu = torch.device("cpu")
    sites = [Site(h.name, h.cohort, config, SiteStore(folder / "sites" / str(i)), cpu) for i, h in enumerate(hospitals)]
    app = client_app(lambda context: sites[int(context.node_config["partition-id"])])
    FedRemind(config, [RunFolder(folder)]).run(LocalGrid(app, len(sites), {}, run_id=1))
    return {h.name: h.cohort for h in hospitals}


def as_json(of: Cohort) -> list[dict[str, Any]]:
    """Patients as a request has them."""
    patients = []
    for i in range(len(of)):
        one, modalities = of.take([i]), {}
        for bit, schema in enumerate(of.schema.modalities):
            contents = one.modalities[schema.name]
            if not one.presence_Nm[0, bit]:
                continue
            if isinstance(contents, Table):
                pairs = zip(schema.columns, contents.values_NF[0].tolist(), strict=True)
                modalities[schema.name] = {c: None if np.isnan(v) else v for c, v in pairs}
            elif isinstance(contents, Series):
                rows = zip(contents.time_O.tolist(), contents.item_O.tolist(), contents.value_O.tolist(), strict=True)
                modalities[schema.name] = [{"hours": t, "item": schema.items[k], "value": v} for t, k, v in rows]
        patients.append({"id": str(i), "modalities": modalities})
    return patients


def serve(folder: Path, site: str, audit: AuditLog) -> tuple[uvicorn.Server, str, str]:
    """Start the service in a thread; returns it, its address and its token."""
    keeper, access = ModelKeeper(of_folder(folder, site), device="cpu"), Access()

    def log(served: object, patients: int, refused: int) -> None:
        audit.append(Predicted(round=2, patients=patients, refused=refused))

    app = serving_app(keeper, Monitor(10), access, log, Limits(), Files())
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return server, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", access.token


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[1, 32, 256], help="patients of a request")
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        patients = trained(folder / "run")
        site, of = next(iter(patients.items()))
        predictor = load(folder / "run", site, device="cpu")
        server, address, token = serve(folder / "run", site, AuditLog(folder / "audit"))
        print("| patients | predictor, ms | service, ms | service ÷ predictor | patients per second |")
        print("|---|---|---|---|---|")
        with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}) as client:
            for number in arguments.patients:
                part = of.take(np.arange(number))
                body = {"patients": as_json(part)}
                direct, served = [], []
                for _ in range(arguments.repeats + 1):
                    began = time.perf_counter()
                    predictor.outputs(part)
                    middle = time.perf_counter()
                    client.post("/predict", json=body).raise_for_status()
                    served.append(time.perf_counter() - middle)
                    direct.append(middle - began)
                a, b = (
                    statistics.median(direct[1:]),
                    statistics.median(served[1:]),
                )  # the first request loads modules
                print(f"| {number} | {1e3 * a:.2f} | {1e3 * b:.2f} | {b / a:.2f} | {number / b:.0f} |", flush=True)
        server.should_exit = True


if __name__ == "__main__":
    main()
