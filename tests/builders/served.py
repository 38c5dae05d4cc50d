"""A small run of two hospitals with every kind of modality that needs no picture, and its service."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from remind.config import Config
from remind.data.cohort.cohort import Cohort
from remind.data.cohort.kinds.table import Table
from remind.web.access import Access
from remind_client.rounds.site import Site
from remind_client.serving.app import Files, Limits, serving_app
from remind_client.serving.model import ModelKeeper, Served
from remind_client.serving.monitor import Monitor
from remind_client.serving.source import of_folder
from remind_client.store.site_store import SiteStore
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort, contents, declared
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.sites import CPU

MIXES = {"north": [1, 3, 7] * 12, "south": [3, 5, 7, 7] * 12}
TOKEN = "a-token-of-more-than-twenty-characters"


def trained(folder: Path, **changes: Any) -> tuple[Path, dict[str, Cohort]]:
    """A run in a results folder, as `remind simulate` lays it out, and the patients of each hospital."""
    config = Config.from_flat(BASE | changes)
    patients = {name: cohort(mix, seed) for seed, (name, mix) in enumerate(MIXES.items())}
    results = RunFolder(folder)
    sites = [
        Site(name, of, config, SiteStore(folder / "sites" / str(i)), CPU)
        for i, (name, of) in enumerate(patients.items())
    ]
    FedRemind(config, [results]).run(SiteGrid(sites))
    return folder, patients


@dataclass
class Service:
    """A service under test, and what it wrote into the audit log."""

    client: TestClient
    keeper: ModelKeeper
    monitor: Monitor
    audited: list[tuple[int, int]]

    def ask(self, *patients: Any, **fields: Any) -> Any:
        return self.client.post("/predict", json={"patients": list(patients), **fields})


def service(folder: Path, site: str = "north", minimum: int = 1, **given: Any) -> Service:
    """The service over the encoders of one hospital."""
    monitor, audited = Monitor(minimum), []
    keeper = ModelKeeper(of_folder(folder, site), lambda served: monitor.model_loaded(), least=5, device="cpu")
    if "learns" in given:
        keeper.learns = given["learns"]

    def audit(served: Served, patients: int, refused: int) -> None:
        audited.append((patients, refused))

    limits, files = given.get("limits", Limits()), given.get("files", Files())
    app = serving_app(keeper, monitor, Access(token=TOKEN), given.get("audit", audit), limits, files)
    client = TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"}, raise_server_exceptions=False)
    return Service(client, keeper, monitor, audited)


def as_json(of: Cohort, i: int) -> dict[str, Any]:
    """A patient of tables and series as a request has it."""
    one = of.take([i])
    modalities: dict[str, Any] = {}
    for bit in range(len(of.schema.modalities)):
        schema = declared(of, bit)
        held = contents(one, schema.name)
        if not one.presence_Nm[0, bit]:
            continue
        if isinstance(held, Table):
            pairs = zip(schema.columns, held.values_NF[0].tolist(), strict=True)
            modalities[schema.name] = {c: _cell(schema.categories.get(c), v) for c, v in pairs}
        else:
            rows = zip(held.time_O.tolist(), held.item_O.tolist(), held.value_O.tolist(), strict=True)
            modalities[schema.name] = [{"hours": t, "item": schema.items[k], "value": v} for t, k, v in rows]
    return {"id": str(one.patient_id_N[0]), "modalities": modalities}


def _cell(levels: tuple[str, ...] | None, value: float) -> str | float | None:
    if np.isnan(value):
        return None
    return levels[int(value)] if levels else value


def shuffled(patient: dict[str, Any]) -> dict[str, Any]:
    """The same patient, everything in another order."""
    modalities = {
        name: own[::-1] if isinstance(own, list) else dict(reversed(own.items()))
        for name, own in reversed(patient["modalities"].items())
    }
    return {"modalities": modalities, "id": patient["id"]}
