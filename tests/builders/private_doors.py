"""A hospital's door in a private run."""

from remind.federation.flower import from_record, to_record
from remind.federation.messages import Enrol
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind.version import VERSION
from remind_client import app as app_module
from remind_client.launcher.door import Door
from remind_server.rounds.member import Member
from remind_server.rounds.state import State
from remind_server.rounds.tasks import sites_of, train_tasks
from tests.builders.bundles import fab
from tests.builders.configs import settings
from tests.builders.private_sites import PRIVATE, given_scale
from tests.builders.site_files import asked, context

CHANGES = PRIVATE | {"train.batch": 16, "train.local-steps": 2, "privacy.epsilon": 50.0}


POLICY = """[vault]
enabled = false
[policy]
runs = ["*"]
minimum_patients = 5
minimum_batch = 8
[policy.privacy]
require = ["site"]
"""


ENROL = to_record(Enrol(version=VERSION))


def ask(site, content, kind, changes=None, load=lambda bundle: app_module.app):
    config = settings(CHANGES | (changes or {}))
    reply = Door(site).answer(fab(), asked(content, kind), context(site, **config.flat()), load)
    return from_record(reply.content)[0]


def first_task(enrolment):
    config = settings(CHANGES)
    member = Member(2, "north", enrolment.counts, frozenset(enrolment.observed))
    weights = methods_of(config).weighing.initial(sites_of([member]))
    model = GlobalModel.build(config, given_scale(), enrolment.counts)
    return train_tasks(config, given_scale(), State(0, model, weights), [member], [member])[2].record()
