"""A row of a shared embedding leaves a site only if enough of its patients read it in the round."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from remind.config import Config, Scalar
from remind.data.batches.batch import SiteData
from remind.data.batches.lazy import Request
from remind.data.cohort.cohort import TRAIN
from remind.data.synthetic.generate import generate
from remind.federation.blocks import unpack
from remind.federation.flower import read_as
from remind.federation.messages import Task
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind_client.rounds.site import Site
from remind_client.rounds.small_updates import rows_below_minimum
from remind_client.store.site_store import SiteStore
from remind_server.rounds.member import Member
from remind_server.rounds.state import State
from remind_server.rounds.tasks import sites_of, train_tasks
from tests.builders.configs import BASE
from tests.builders.sites import CPU

CHANGES: dict[str, Scalar] = {
    "synthetic.patients": 120,
    "synthetic.law": "independent",
    "synthetic.missing": "0.2, 0.2",
    "method.objective": "erm",
    "federation.encoders": "shared",
    "model.encoders.buckets": 64,
    "model.encoders.text": "words",
    "model.hide": 0.0,
    "train.warmup-rounds": 1,
    "train.batch": 0,
    "train.local-steps": 2,
}
TABLES = {"codes": "embedding.weight", "text": "backbone.embedding.weight"}


def test_a_row_needs_different_patients_and_no_one_may_dominate():
    row_R = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3])
    patient_R = np.array([0, 1, 2, 0, 0, 1, 0, 1, 2])
    pull_N = np.array([1.0, 1.0, 1.0])

    def held(minimum, pull_N=pull_N):
        return rows_below_minimum(row_R, pull_N[patient_R], patient_R, 5, minimum).tolist()

    assert held(3) == [False, True, True, True, True], "twice the same patient is one patient; nobody is few"
    assert held(2) == [False, False, False, True, True]
    assert held(2, np.array([1.0, 1.0, 0.0])) == [False, False, False, True, True], "who was not drawn does not count"
    assert held(3, np.array([9.0, 1.0, 1.0])) == [True] * 5, "one patient has more than two thirds"


def sent_back(folder, kind, minimum, **changes):
    """The patients, the model, and the tensors that went to a site and came back."""
    config = Config.from_flat(BASE | CHANGES | {"synthetic.kinds": f"{kind}, table"} | changes)
    patients = generate(config.synthetic, 0)
    patients = replace(patients, split_N=np.full(len(patients), TRAIN, dtype=np.int8))
    one = Site("s", patients, config, SiteStore(folder), CPU, minimum)
    counts = one.engine.patients.counts
    member = Member(2, "s", counts, frozenset(counts))
    weights = methods_of(config).weighing.initial(sites_of([member]))
    state = State(0, GlobalModel.build(config, patients.schema, counts), weights)
    task = train_tasks(config, patients.schema, state, [member], [member])[2]
    report, buffer = one.train(*read_as(task.record(), Task))
    return patients, one, task.sent, task.answered(report.index, unpack(report.index, buffer))


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("updates", ["exact", "int8"])
def test_rows_that_few_patients_read_come_back_as_they_went(kind, updates, tmp_path):
    minimum = 60
    patients, one, sent, back = sent_back(tmp_path, kind, minimum, **{"federation.updates": updates})
    name = patients.schema.names[0]
    table = f"encoders.{name}.{TABLES[kind]}"
    index = np.flatnonzero(patients.presence_Nm[:, 0])
    readers = np.zeros(len(sent[table]), dtype=int)
    for i in index:  # one by one, and by the gradient
        (batch,) = SiteData(patients).batches([Request(np.array([i]), only=(name,))])
        one.engine.model.zero_grad()
        one.engine.model.encoders[name](batch.inputs[name]).square().sum().backward()
        gradient = one.engine.model.encoders[name].get_parameter(TABLES[kind]).grad
        readers += (gradient != 0).any(dim=1).numpy()
    moved = (sent[table] != back[table]).any(dim=1).numpy()
    assert (readers >= minimum).any()
    assert ((readers > 0) & (readers < minimum)).any()
    assert not moved[readers < minimum].any(), "nobody and few look alike"
    assert moved[readers >= minimum].all()


def test_without_a_minimum_every_row_leaves(tmp_path):
    patients, _, sent, back = sent_back(tmp_path, "codes", 1)
    table = f"encoders.{patients.schema.names[0]}.embedding.weight"
    assert not torch.equal(sent[table], back[table])
    assert (sent[table] != back[table]).any(dim=1).all(), "AdamW's decay moves those that nobody has"
