"""Training on a cohort ten times larger than the memory given to the process."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np, torch
from remind.config import Config
from remind.data.cohort.kinds.pictures import Files, Reading
from remind.data.cohort.cohort import TRAIN, VALIDATION, Cohort, presence
from remind.data.cohort.kinds.pictures import VolumeSchema
from remind.data.cohort.schema import CohortSchema
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from pathlib import Path
from remind_client.app import client_app
from remind_server.simulation.local_grid import LocalGrid
from remind_server.rounds.strategy import FedRemind

folder, patients, spare = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
source_N = np.empty(patients, dtype=object)
source_N[:] = [folder / f"{i}.npy" for i in range(patients)]
schema = CohortSchema(name="big", classes=("a", "b"), modalities=(VolumeSchema(name="ct", size=SIZE, channels=1),))
contents = {"ct": Files(source_N, Reading(None, True))}
ids = np.array([f"p{i}" for i in range(patients)])
split_N = np.where(np.arange(patients) % 4 == 3, VALIDATION, TRAIN).astype(np.int8)
cohort = Cohort(schema, ids, ids, np.arange(patients) % 2, None, split_N, presence(schema, contents), contents)
config = Config.from_flat({
    "model.width": 8, "model.experts": 2, "model.heads": 1, "model.tokens": 4, "model.encoders.volume": "resnet10",
    "model.encoders.volume-weights": "random", "train.warmup-rounds": 1, "train.routing-rounds": 1,
    "train.local-steps": 2, "train.batch": 2,
})
torch.set_num_threads(1)
site = Site("s", cohort, config, SiteStore(folder / "state"), torch.device("cpu"))
used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + spare, used + spare))
if len(sys.argv) > 4:
    hoard = np.stack([np.load(path) for path in source_N])  # what lazy reading avoids
FedRemind(config).run(LocalGrid(client_app(lambda context: site), 1, {}, 1))
"""
SIZE = (8, 32, 32)
RAW = (64, 512, 512)  # bytes: 16 MiB in a file, 64 MiB as float32
PATIENTS, SPARE = 320, 512 * 2**20  # 5 GiB of files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Volumes of zeros in sparse files, which take no room on the disk."""
    import numpy as np

    folder = tmp_path_factory.mktemp("big")
    for i in range(PATIENTS):
        path = folder / f"{i}.npy"
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=RAW).flush()
    return folder


def run(folder, *more):
    script = SCRIPT.replace("SIZE", repr(SIZE))
    command = [sys.executable, "-c", script, str(folder), str(PATIENTS), str(SPARE), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_cohort_ten_times_larger_than_memory(files):
    assert sum(p.stat().st_size for p in files.glob("*.npy")) >= 10 * SPARE
    done = run(files)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_the_cap_holds(files):
    """Reading the cohort into memory does fail under it: the test above could."""
    done = run(files, "hoard")
    assert done.returncode != 0
    assert "MemoryError" in done.stderr or "allocate" in done.stderr.lower()
