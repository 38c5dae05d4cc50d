"""A hospital's door, and messages that arrive at it."""

from datetime import UTC, datetime

import numpy as np
from flwr.app import Message
from flwr.clientapp import ClientApp

from remind.federation.flower import from_record, to_record
from remind.federation.message_statistics import LossSum
from remind.federation.messages import Enrol, Enrolment, Report, Task
from remind.version import VERSION
from remind_client.launcher.door import Door
from tests.builders.bundles import fab
from tests.builders.evaluations import evaluation
from tests.builders.site_files import asked, context

POLICY = '[policy]\nruns = ["*"]\nminimum_patients = 10\nminimum_batch = 8\n'


NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


ENROL = to_record(Enrol(version=VERSION))


class Recorder:
    """An app that notes what reached it and answers what it is told to."""

    def __init__(self, answer):
        self.answer, self.seen, self.loaded = answer, [], 0
        app = ClientApp()
        for register in (app.query, app.train, app.evaluate):
            register()(self.handle)
        self.app = app

    def handle(self, message, ctx):
        self.seen.append(dict(ctx.run_config))
        answer = self.answer
        if isinstance(answer, Exception):
            raise answer
        return Message(answer, reply_to=message)

    def load(self, bundle):
        self.loaded += 1
        return self.app


def ask(site, recorder, content=ENROL, kind="query", bundle=None, **settings):
    """Answer's message, and its buffer."""
    door = Door(site, now=lambda: NOON)
    reply = door.answer(bundle or fab(), asked(content, kind), context(site, **settings), recorder.load)
    assert not reply.has_error()
    return from_record(reply.content)


def enrolment(**changes):
    values = {
        "site": "north",
        "version": VERSION,
        "cohort_schema": {},
        "fingerprint": "f",
        "counts": {3: 20, 5: 4},
        "observed": (3, 5, 6),
    }
    return to_record(Enrolment(**(values | changes)))


def task_and_report(**changes):
    index = tiny_index()
    values = {"round": 2, "stage": 1, "stage_round": 0, "stage_rounds": 1, "seed": 0}
    task = Task(**values, weights={3: 1.0}, counts={3: 40}, block_weights={}, index=index)
    answer = {"round": 2, "share": 0.5, "seconds": 1.0, "index": index}
    parts = {"train": {3: LossSum(count=20, loss_sum=9.0)}, "validation": {3: evaluation(4), 5: evaluation(11)}}
    return task, Report(**(answer | parts | changes))


def tiny_index():
    from remind.federation.blocks import Entry

    return (
        Entry(name="fusion.groups.3.phi", block="group:3", shape=(2,), dtype="float32"),
        Entry(name="fusion.head.weight", block="shared", shape=(3,), dtype="float32"),
    )


BUFFER = np.zeros(20, np.uint8)
