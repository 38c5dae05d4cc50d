"""What a site refuses of a coordinator's messages under secure aggregation, and that it never answers without masks."""

from typing import Any, cast

import numpy as np
import pytest

from remind.consortium.enrolment import public_key_text
from remind.consortium.roster import read_roster, roster_text
from remind.errors import UserError
from remind.federation.flower import from_record
from remind.federation.messages import Examine, Report, Task
from remind.secagg.codec import RangeError
from remind.secagg.limits import RefusedError
from remind.secagg.slot_messages import ShareRequest
from remind_client.identity import new_private_key
from remind_client.rounds.secure import SecureAnswers
from remind_client.store.site_store import SiteStore
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.grids import SiteGrid
from tests.builders.secagg_parties import enrolled
from tests.builders.secure_runs import MIXES, ONE, SECURE, config
from tests.builders.sites import site


class Taps(SiteGrid):
    """Keeps what the coordinator sent."""

    sent: list

    def _work(self, message):
        self.sent.append((message.metadata.dst_node_id - 2, *from_record(message.content)))
        return super()._work(message)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A run's sites, and the first task and the examination that the first of them got."""
    folder = tmp_path_factory.mktemp("asked")
    settings = config(**ONE | SECURE)
    sites = [site(n, cohort(mix, seed), settings, folder) for seed, (n, mix) in enumerate(MIXES.items())]
    grid = Taps(sites)
    grid.sent = []
    FedRemind(settings).run(grid)
    mine = [(message, buffer) for node, message, buffer in grid.sent if node == 0]
    task = next(one for one in mine if isinstance(one[0], Task))
    examine = next(one for one in mine if isinstance(one[0], Examine))
    return sites[0], task, examine


def test_a_task_names_only_groups_of_three_sites_and_of_this_one(asked):
    one, (task, _), (examine, _) = asked
    assert task.secure.observers.keys() == {"shared", "group:1", "group:3", "group:7"}
    assert all(one.name in names and len(names) >= 3 for names in task.secure.observers.values())
    assert examine.secure.slot != task.secure.slot


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"weights": "half"}, "weight of a patient differs"),
        ({"block_weights": "half"}, "differs from its part of the objective"),
        ({"patient": {}}, "weight of a patient is missing"),
        ({"whole": {}}, "differs from its part of the objective"),
    ],
)
def test_weights_that_are_not_everybodys_are_refused(asked, change, why):
    one, (task, buffer), _ = asked
    ((field, value),) = change.items()
    if value == "half":
        changed = task.model_copy(update={field: {k: w / 2 for k, w in getattr(task, field).items()}})
    else:
        changed = task.model_copy(update={"secure": task.secure.model_copy(update=change)})
    with pytest.raises(RefusedError, match=why):
        one.train_masked(changed, buffer)


def test_a_clear_answer_is_refused_whatever_is_asked(asked):
    one, (task, buffer), (examine, model) = asked
    with pytest.raises(RefusedError, match="differ in whether answers are masked"):
        one.train(task.model_copy(update={"secure": None}), buffer)
    with pytest.raises(RefusedError, match="differ in whether answers are masked"):
        one.examine(examine.model_copy(update={"secure": None}), model)


def test_a_masked_answer_is_refused_where_the_run_has_none(asked, tmp_path):
    _, (task, buffer), (examine, model) = asked
    plain = site("s1", cohort(MIXES["s1"], 0), config(**ONE), tmp_path)
    with pytest.raises(RefusedError, match="differ in whether answers are masked"):
        plain.train_masked(task, buffer)
    with pytest.raises(RefusedError, match="differ in whether answers are masked"):
        plain.examine_masked(examine, model)


def test_an_examination_is_masked_once_under_the_same_keys(asked):
    one, _, (examine, model) = asked
    with pytest.raises(RefusedError, match="were used"):
        one.examine_masked(examine, model)


def test_another_model_under_the_same_keys_is_refused(asked):
    one, (task, buffer), _ = asked
    other = buffer.copy()
    other.view(np.float32)[0] += 1
    state = one.secure._site()
    with pytest.raises(RefusedError, match="used for another question"):
        one.secure.report(task, other, *_report(one, task, buffer))
    assert one.secure._site().state == state.state


def _report(one, task, buffer):
    """A report without losses, and the model as it was received."""
    return Report(round=task.round, share=0.0, train={}, validation={}, seconds=0.0, index=task.index), buffer


def test_the_same_question_gives_the_same_masked_bytes(asked):
    one, (task, buffer), _ = asked
    report, answer = _report(one, task, buffer)
    _, first = one.secure.report(task, buffer, report, answer)
    _, again = one.secure.report(task, buffer, report, answer)
    assert np.array_equal(first, again)


def test_an_update_beyond_the_grid_raises_and_nothing_is_sent(asked):
    one, (task, buffer), _ = asked
    report, answer = _report(one, task, buffer)
    far = answer.copy()
    far.view(np.float32)[:] += 1e6
    with pytest.raises(RangeError, match="under masks"):
        one.secure.report(task, buffer, report, far)


def test_published_keys_stay_and_other_slots_are_refused(asked):
    one, _, _ = asked
    keys = one.secure._site().state.keys
    assert one.secure.prepare(keys.slots).keys == keys
    with pytest.raises(RefusedError, match="under other settings"):
        one.secure.prepare(keys.slots + 1)


def test_keys_dealt_under_some_settings_serve_no_others(asked):
    """A second run with the same run.id would get shares of noise for sums whose other shares are smaller."""
    one, (task, buffer), _ = asked
    of = one.secure
    under_others = SecureAnswers(of._run, of._name, "ab" * 32, of._store, None, virtual=True)
    another_run = SecureAnswers("another", of._name, of._terms, of._store, None, virtual=True)
    for liar in (under_others, another_run):
        for request in (
            lambda liar=liar: liar.prepare(of._site().state.keys.slots),
            lambda liar=liar: liar.deal(of._site().state.book),
            lambda liar=liar: liar.sums(task, buffer, {}, 1.0),
            lambda liar=liar: liar.noise_makers(task, one.config.privacy),
            lambda liar=liar: liar.unmask(ShareRequest(slot=task.secure.slot, survivors=(), seeds={}, secrets={})),
        ):
            with pytest.raises(RefusedError, match="under other settings"):
                request()


def test_without_the_setting_nothing_of_it_is_answered(tmp_path):
    plain = site("s1", cohort(MIXES["s1"], 0), config(**ONE), tmp_path)
    with pytest.raises(RefusedError, match="does not aggregate securely"):
        plain.secure.prepare(3)


class Ours:
    """What is used of a hospital's site.toml."""

    def __init__(self, folder, roster):
        self.folder, self.roster = folder, roster

    def path(self, text):
        return self.folder / text


def test_a_hospital_without_a_roster_publishes_no_keys(asked, tmp_path):
    one, _, _ = asked
    with pytest.raises(UserError, match="roster is missing"):
        SecureAnswers("run", "s1", "ab" * 32, one.store, None).prepare(3)
    real = SecureAnswers("run", "s1", "ab" * 32, one.store, cast(Any, Ours(tmp_path, "")))
    with pytest.raises(UserError, match="roster is missing"):
        real.prepare(3)
    real = SecureAnswers("run", "s1", "ab" * 32, one.store, cast(Any, Ours(tmp_path, "roster.toml")))
    with pytest.raises(UserError, match="roster cannot be read"):
        real.prepare(3)


def test_a_hospital_signs_with_its_enrolled_key_and_only_if_the_roster_has_it(tmp_path):
    store = SiteStore(tmp_path / "state")
    key = new_private_key(tmp_path / "site.key")
    ours = cast(Any, Ours(tmp_path, "roster.toml"))
    ours.key_path = tmp_path / "site.key"
    (tmp_path / "roster.toml").write_text(roster_text({"s1": public_key_text(enrolled("another").public_key())}))
    with pytest.raises(UserError, match="entry for s1 is not this site's key"):
        SecureAnswers("run", "s1", "ab" * 32, store, ours).prepare(3)
    (tmp_path / "roster.toml").write_text(roster_text({"s1": public_key_text(key.public_key())}))
    keys = SecureAnswers("run", "s1", "ab" * 32, store, ours).prepare(3).keys
    keys.require_signed()
    assert keys.public_key == public_key_text(key.public_key())


def test_a_roster_is_read_as_it_was_written_and_wrong_keys_are_named(tmp_path):
    keys = {name: public_key_text(enrolled(name).public_key()) for name in ("a.b", "c")}
    path = tmp_path / "roster.toml"
    path.write_text(roster_text(keys))
    assert read_roster(path) == keys
    path.write_text('a = "no key"\n')
    with pytest.raises(UserError, match="a: public_key"):
        read_roster(path)
    path.write_text("a = [")
    with pytest.raises(UserError, match="no TOML"):
        read_roster(path)
