"""A round needs a share of each group's patients: it waits and is repeated, and the message names group and share."""

import pytest

from remind.config import Config
from remind.errors import UserError
from remind_server.rounds import waiting
from remind_server.rounds.collect import GONE, LATE, LEFT, LEFT_OUT, TooFewError
from remind_server.rounds.group_quorum import require_groups
from remind_server.rounds.member import Member
from remind_server.rounds.parties import Parties
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort, schema
from tests.builders.configs import BASE, settings
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

COUNTS = {"bern": {1: 60, 3: 10}, "geneva": {1: 40}, "zurich": {3: 30}}


def parties(least: float) -> Parties:
    found = Parties(settings({"federation.min-group-share": least}))
    found.roster.schema = schema()
    members = [Member(i, name, own, frozenset(own)) for i, (name, own) in enumerate(COUNTS.items(), 1)]
    found.roster.members = {member.node_id: member for member in members}
    return found


@pytest.mark.parametrize(
    ("least", "answered", "how", "error", "lacking"),
    [
        (0.0, ["geneva"], {"bern": LEFT_OUT, "zurich": LEFT}, None, []),
        (0.6, ["bern", "zurich"], {"geneva": GONE}, None, []),
        (0.61, ["bern", "zurich"], {"geneva": GONE}, TooFewError, ["a: 60% answered"]),
        (0.5, ["bern", "geneva"], {"zurich": LATE}, TooFewError, ["a+b: 25% answered"]),
        (0.5, ["bern", "geneva"], {"zurich": LEFT_OUT}, UserError, ["a+b: 25% answered"]),
        (0.5, ["geneva"], {"bern": LATE, "zurich": LEFT}, UserError, ["a: 40% answered", "a+b: 0% answered"]),
        (0.2, ["geneva"], {"bern": LATE, "zurich": LEFT}, TooFewError, ["a+b: 0% answered"]),
        (1.0, list(COUNTS), {}, None, []),
    ],
)
def test_shares_are_of_patients_and_only_who_may_come_back_is_waited_for(least, answered, how, error, lacking):
    absent = dict.fromkeys(how, "no answer")
    if error is None:
        require_groups(parties(least), answered, absent, how)
        return
    with pytest.raises(UserError) as caught:
        require_groups(parties(least), answered, absent, how)
    assert type(caught.value) is error
    said = str(caught.value).splitlines()
    assert said[0] == f"federation.min-group-share asks for {least:.0%} of each group's patients"
    assert said[1:] == [f"  - {line}" for line in lacking] + [f"  - {name}: no answer" for name in sorted(how)]


class Leaving(SiteGrid):
    """The last site is away from its second task on, for so many looks at the list of nodes."""

    def __init__(self, sites, looks):
        super().__init__(sites)
        self.left, self.tasks, self.away = looks, 0, False

    def get_node_ids(self):
        every = list(super().get_node_ids())
        if self.away and self.left > 0:
            self.left -= 1
            return every[:-1]
        return every

    def round_ended(self):
        self.away = True


class Ends(Recorder):
    """Tells the grid of the end of each round."""

    grid: Leaving

    def round_done(self, record, tensors):
        super().round_done(record, tensors)
        self.grid.round_ended()


def run(folder, looks, least):
    changes = {"federation.min-group-share": least, "federation.min-sites": 1, "federation.retries": 1}
    config = Config.from_flat(BASE | {"train.warmup-rounds": 2, "train.routing-rounds": 0} | changes)
    sites = [site("s", cohort([1, 3] * 8, 0), config, folder), site("t", cohort([2] * 8, 1), config, folder)]
    recorder, grid = Ends(), Leaving(sites, looks)
    recorder.grid = grid
    FedRemind(config, [recorder]).run(grid)
    return recorder


def test_a_group_that_is_away_is_waited_for_and_the_round_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "SETTLE", 0.01)
    found = run(tmp_path / "waits", 4, 0.5)
    assert [record.answered for record in found.rounds] == [("s", "t")] * 2
    without = run(tmp_path / "continues", 10**6, 0.0)
    assert without.rounds[1].answered == ("s",)
    assert without.rounds[1].frozen == (2,)


def test_a_group_that_stays_away_ends_the_run_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "SETTLE", 0.01)
    with pytest.raises(UserError, match=r"50% of each group's patients\n  - b: 0% answered\n  - t: not connected"):
        run(tmp_path, 10**6, 0.5)


def test_a_sample_of_the_sites_cannot_promise_it():
    with pytest.raises(UserError, match=r"min-group-share = 0\.5 needs federation\.participation = 1"):
        settings({"federation.min-group-share": 0.5, "federation.participation": 0.5})
