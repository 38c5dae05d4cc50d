"""A repeated round: the same question gets the same bytes; another question starts from the state before the round."""

import numpy as np
import pytest
import torch

from remind.federation.flower import read_as
from remind.federation.messages import Examine, Task
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind.site_files import INDEX, STATE
from remind_client.question import TooOldError
from remind_client.refusal import words_for
from remind_client.rounds.site import Site
from remind_client.store.history import ANSWER
from remind_client.store.site_store import SiteStore
from remind_client.vault.errors import VaultError
from remind_client.vault.key import VaultKey
from remind_client.vault.rotate import rotate
from remind_client.vault.vault import PlainVault, SealedVault
from remind_server.rounds.member import Member
from remind_server.rounds.state import State
from remind_server.rounds.tasks import examine_task, sites_of, train_tasks
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.sites import CPU

NOISY = {"model.dropout": 0.2, "model.hide": 0.2, "train.warmup-rounds": 4}


@pytest.fixture(params=["plain", "sealed"])
def vault(request, tmp_path):
    return PlainVault() if request.param == "plain" else SealedVault(tmp_path, [VaultKey(bytes(32))])


@pytest.fixture
def make(tmp_path, vault):
    """A site in a new process."""
    config = settings(NOISY)

    def make(folder="run-1"):
        (tmp_path / folder).mkdir(exist_ok=True)
        store = SiteStore(tmp_path / folder, vault)
        return Site("s", cohort([1, 3, 7] * 5), config, store, CPU, keeps_answers=True)

    return make


def ask(one, round_, seed=0):
    """The question of a round; `seed` tells one global model from another."""
    member, state = before(one, round_, seed)
    tasks = train_tasks(one.config, one.cohort.schema, state, [member], [member])
    return read_as(tasks[2].record(), Task)


def examination(one, round_, on_test=True):
    member, state = before(one, round_)
    return read_as(examine_task(one.config, one.cohort.schema, state, member, routing=False, on_test=on_test), Examine)


def before(one, round_, seed=0):
    config, counts = one.config, one.engine.patients.counts
    member = Member(2, "s", counts, frozenset(counts))
    weights = methods_of(config).weighing.initial(sites_of([member]))
    model = GlobalModel.build(config.model_copy(update={"seed": seed}), one.cohort.schema, counts)
    return member, State(round_, model, weights)


def test_the_same_question_gets_the_same_bytes_without_work_even_from_another_process(make):
    one = make()
    for round_ in (0, 1):
        report, buffer = one.train(*ask(one, round_))
    again = make()
    again.engine.state.receive = None  # anybody who works fails
    same, bytes_ = again.train(*ask(again, 1))
    assert same == report, "the seconds it took included"
    assert np.array_equal(bytes_, buffer)


def test_another_question_begins_where_the_first_began(make):
    one, straight = make(), make("run-2")
    one.train(*ask(one, 0))
    one.train(*ask(one, 1))
    _, other = one.train(*ask(one, 1, seed=5))
    straight.train(*ask(straight, 0))
    _, expected = straight.train(*ask(straight, 1, seed=5))
    assert np.array_equal(other, expected)
    _, first = make().train(*ask(one, 1, seed=5))
    assert np.array_equal(first, expected), "and its answer took the place of the first"


class Died(BaseException):
    pass


@pytest.mark.parametrize("round_", [0, 1])
@pytest.mark.parametrize("point", ["begun", "work", "state", "answer"])
def test_a_site_that_dies_in_a_round_does_it_again_from_its_beginning(make, round_, point, monkeypatch):
    one, straight = make(), make("run-2")
    for done in range(round_):
        one.train(*ask(one, done))
        straight.train(*ask(straight, done))

    def die(*given, **named):
        raise Died

    def half_trained(work):
        with torch.no_grad():
            for parameter in one.engine.model.parameters():
                parameter.add_(1.0)
        raise Died

    state, history = type(one.engine.state), type(one.store.history)
    place, name, how = {
        "begun": (state, "receive", die),
        "work": (type(one.engine.methods.rule), "work", lambda rule, work: half_trained(work)),
        "state": (SiteStore, "save", die),
        "answer": (history, "keep_answer", die),
    }[point]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, how)
        with pytest.raises(Died):
            one.train(*ask(one, round_))
    _, expected = straight.train(*ask(straight, round_))
    for found in (make(), one):  # a new process, and the same one after an error
        (found.store.folder / f"{ANSWER}~{round_}").unlink(missing_ok=True)
        _, answer = found.train(*ask(found, round_))
        assert np.array_equal(answer, expected)


def test_the_last_two_rounds_are_kept_and_an_older_one_is_refused_in_words(make):
    one = make()
    for round_ in range(4):
        one.train(*ask(one, round_))
    names = {path.name for path in one.store.folder.iterdir()}
    assert {n for n in names if "~" in n} == {f"{n}~{r}" for n in (STATE, ANSWER) for r in (2, 3)}
    with pytest.raises(TooOldError) as caught:
        one.train(*ask(one, 1))
    assert words_for(caught.value) == (
        "round 2 was requested again, but this site has begun round 4 and has only its states before rounds 3, 4"
    )
    one.train(*ask(one, 2, seed=5))
    names = {path.name for path in one.store.folder.iterdir()}
    assert {n for n in names if "~" in n} == {f"{STATE}~1"[:-1] + "2", f"{ANSWER}~2"}, (
        "what came later is another history"
    )


def numbers(examined):
    return examined.model_dump(exclude={"seconds"})


@pytest.mark.parametrize("seed", [0, 5])
def test_a_run_that_has_ended_keeps_its_model_and_nothing_for_further_rounds(make, seed):
    one = make()
    for round_ in range(3):
        one.train(*ask(one, round_))
    one.examine(*examination(one, 3, on_test=False))
    assert list(one.store.folder.glob("*~*")), "the run continues"
    first = one.examine(*examination(one, 3))
    names = sorted(path.name for path in one.store.folder.iterdir() if path.is_file())
    assert not [n for n in names if "~" in n]
    assert {n for n in names if n.startswith("encoder-")} == one.store.needed()
    assert one.store.optimizer(one.store.stage()) == {}
    for again in (one, make()):  # a coordinator that was killed meanwhile examines once more
        again.examine(*examination(again, 3, on_test=False))
        assert numbers(again.examine(*examination(again, 3))) == numbers(first)
        for round_ in (0, 2, 3):
            with pytest.raises(TooOldError) as caught:
                again.train(*ask(again, round_, seed=seed))
            assert words_for(caught.value) == (
                f"round {round_ + 1} was requested, but this run has ended at this site; start a new run"
            )


def test_versions_open_after_the_key_was_changed(make, tmp_path, vault):
    if isinstance(vault, PlainVault):
        pytest.skip("has no key")
    one = make()
    _, answer = one.train(*ask(one, 0))
    new = VaultKey(b"1" * 32)
    rotate(tmp_path, vault.keys[0], new)
    store = SiteStore(one.store.folder, SealedVault(tmp_path, [new]))
    other = Site("s", one.cohort, one.config, store, CPU, keeps_answers=True)
    assert np.array_equal(other.train(*ask(one, 0))[1], answer)


def test_a_repeated_round_replaces_a_damaged_state(make, tmp_path):
    one, straight = make(), make("run-2")
    for each in (one, straight):
        each.train(*ask(each, 0))
        each.train(*ask(each, 1))
    (tmp_path / "run-1" / STATE).unlink()
    (tmp_path / "run-1" / STATE).write_bytes(b"no state")
    expected = straight.train(*ask(straight, 1, seed=5))[1]
    assert np.array_equal(make().train(*ask(straight, 1, seed=5))[1], expected)


def test_a_site_whose_state_before_the_round_is_lost_refuses_instead_of_using_a_later_one(make, tmp_path):
    one = make()
    for round_ in (0, 1):
        one.train(*ask(one, round_))
    (tmp_path / "run-1" / f"{STATE}~1").unlink()
    with pytest.raises(TooOldError) as caught:
        make().train(*ask(one, 1, seed=5))
    assert words_for(caught.value) == (
        "round 2 was requested again, but the state before it is missing at this site, which has only the one after "
        "2 rounds"
    )


@pytest.mark.parametrize("content", [None, b"{}"])
def test_states_that_the_list_does_not_name_are_not_used(make, tmp_path, vault, content):
    one = make()
    one.train(*ask(one, 0))
    path = tmp_path / "run-1" / INDEX
    path.unlink()
    if content is not None:
        vault.write(path, lambda out: out.write(content))
    with pytest.raises(VaultError, match=r"history.json: is missing, or not what this site wrote; restore it"):
        make().train(*ask(one, 0, seed=5))
