"""Sites that withhold small counts."""

from flwr.app import Message

from remind.federation.flower import from_record, to_record
from remind.federation.messages import Enrolment, Examination, Report
from remind_client.policy.suppress import suppress_enrolment, suppress_examination, suppress_report
from tests.builders.grids import SiteGrid

MINIMUM = 10


class Suppressed(SiteGrid):
    """What leaves is what a door lets out."""

    released: tuple[int, ...] = (1, 3, 5)

    def _work(self, message):
        content, buffer = from_record(super()._work(message).content)
        match content:
            case Enrolment():
                record = to_record(suppress_enrolment(content, MINIMUM))
            case Report():
                record = to_record(suppress_report(content, self.released, MINIMUM), buffer)
            case Examination():
                record = to_record(suppress_examination(content, self.released, MINIMUM))
        return Message(record, reply_to=message)
