"""The policy: pure decisions, compared with slow or obvious oracles."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.federation.blocks import Entry
from remind.federation.message_types import Message
from remind.federation.messages import Enrol, Examine, Task
from remind.federation.secure_messages import Secure
from remind_client.policy.bundle import OURS, Bundle
from remind_client.policy.gate import Asking, RefusedError, require_allowed, require_bundle
from remind_client.policy.hours import DAYS, Window
from remind_client.policy.ledger import Ledger
from remind_client.policy.privacy import PrivacyPolicy
from remind_client.policy.rules import Policy, fingerprint, named_models

HASH = "a" * 64
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
BUNDLE = Bundle(HASH, "federated-remind/simulation", OURS, ())


def task(*blocks: str, groups: tuple[int, ...] = (3,)) -> Task:
    index = tuple(Entry(name=f"n{i}", block=b, shape=(1,), dtype="float32") for i, b in enumerate(blocks))
    weights = dict.fromkeys(groups, 1.0)
    return Task(
        round=0,
        stage=1,
        stage_round=0,
        stage_rounds=1,
        seed=0,
        weights=weights,
        counts=dict.fromkeys(groups, 9),
        block_weights={},
        index=index,
    )


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    ledger = Ledger(tmp_path / "policy")
    ledger.release(1, frozenset({3, 5}))
    return ledger


def decide(policy: Policy, message: Message, ledger: Ledger, now: datetime = NOON, config: Config | None = None) -> str:
    """The reason of the refusal; empty if it is allowed."""
    try:
        require_allowed(policy, Asking(1, BUNDLE, config or Config(), message), now, ledger)
    except RefusedError as refusal:
        return str(refusal)
    return ""


# hours


@given(
    st.sets(st.integers(0, 6), min_size=1),
    st.integers(0, 1440),
    st.integers(0, 1440),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),
)
def test_a_window_holds_what_its_begun_stretches_hold(days, start, end, moment):
    """Oracle: lay out the stretch that begins on each of the last days, and look whether the moment is in one."""
    text = f"{','.join(DAYS[d] for d in sorted(days))} {clock(start)}-{clock(end)}"
    length = end - start if end > start else end - start + 1440
    midnight = datetime(moment.year, moment.month, moment.day)
    begins = [midnight - timedelta(days=back) for back in (0, 1, 2)]
    stretches = [d + timedelta(minutes=start) for d in begins if d.weekday() in days]
    expected = any(s <= moment < s + timedelta(minutes=length) for s in stretches)
    assert Window.parse(text).holds(moment) == expected


def clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


@pytest.mark.parametrize(
    ("text", "days"),
    [("mon-fri 8:00-9:00", {0, 1, 2, 3, 4}), ("fri-mon 8:00-9:00", {4, 5, 6, 0}), ("8:00-9:00", set(range(7)))],
)
def test_days(text, days):
    assert Window.parse(text).days == days


@pytest.mark.parametrize("text", ["", "noon", "mon 25:00-26:00", "mon 08:60-09:00", "moon 8:00-9:00", "mon- 8:00-9:00"])
def test_what_is_no_window_is_a_mistake(text):
    with pytest.raises(ValidationError):
        Policy(hours=(text,))


def test_hours_are_those_of_the_hospitals_wall_clock():
    policy = Policy(hours=("19:00-07:00",), timezone="Europe/Zurich")
    summer, winter = datetime(2026, 7, 1, 17, 30, tzinfo=UTC), datetime(2026, 1, 1, 17, 30, tzinfo=UTC)
    assert policy.open_at(summer)  # 19:30 there
    assert not policy.open_at(winter)  # 18:30 there
    assert policy.open_at(winter.astimezone(ZoneInfo("Asia/Tokyo"))) == policy.open_at(winter)


def test_a_zone_that_is_none_is_a_mistake():
    for zone in ("Middle/Earth", "../../etc/passwd"):
        with pytest.raises(ValidationError, match="no time zone"):
            Policy(timezone=zone)


# requests


def test_the_default_policy_lets_an_ordinary_run_through(ledger):
    require_bundle(Policy(), BUNDLE)
    for message in (Enrol(version="1"), task("shared", "group:3"), Examine(round=0, routing=True, index=())):
        assert decide(Policy(), message, ledger) == ""


def test_outside_the_hours_only_enrolment_is_answered(ledger):
    policy = Policy(hours=("22:00-06:00",), timezone="UTC")
    assert "hours" in decide(policy, task("shared"), ledger)
    assert "hours" in decide(policy, Examine(round=0, routing=True, index=()), ledger)
    assert decide(policy, Enrol(version="1"), ledger) == ""
    assert decide(policy, task("shared"), ledger, NOON.replace(hour=23)) == ""


@pytest.mark.parametrize(
    ("patterns", "block", "allowed"),
    [
        (("shared", "group:*"), "group:3", True),
        (("shared", "group:*"), "encoder:image", False),
        (("shared", "group:3"), "group:5", False),
        (("encoder:table",), "encoder:image", False),
        (("*",), "encoder:image", True),
        ((), "shared", False),
    ],
)
def test_tensors_leave_by_block(patterns, block, allowed, ledger):
    reason = decide(Policy(tensors=patterns), task(block), ledger)
    assert (reason == "") == allowed
    assert allowed or block in reason


def test_a_refused_task_uses_up_no_round(ledger):
    policy = Policy(tensors=("shared",), rounds_per_day=1, timezone="UTC")
    assert decide(policy, task("encoder:image"), ledger)
    assert ledger.rounds(NOON.date()) == 0
    assert decide(policy, task("shared"), ledger) == ""
    assert "1 training rounds a day" in decide(policy, task("shared"), ledger)
    assert decide(policy, task("shared"), ledger, NOON + timedelta(days=1)) == ""


def test_a_day_begins_at_midnight_of_the_hospital(ledger):
    policy = Policy(rounds_per_day=1, timezone="Asia/Tokyo")
    assert decide(policy, task("shared"), ledger, datetime(2026, 3, 4, 14, 59, tzinfo=UTC)) == ""
    assert decide(policy, task("shared"), ledger, datetime(2026, 3, 4, 14, 59, tzinfo=UTC)) != ""
    assert decide(policy, task("shared"), ledger, datetime(2026, 3, 4, 15, 0, tzinfo=UTC)) == ""


def test_groups_too_small_and_groups_not_there_are_refused_in_the_same_words(ledger):
    """Group 4 is small here, group 6 is not; neither was enrolled, and nothing tells them apart."""
    small, absent = decide(Policy(), task(groups=(4,)), ledger), decide(Policy(), task(groups=(6,)), ledger)
    assert small.replace("4", "6") == absent != ""
    assert decide(Policy(), task("group:4"), ledger)
    assert decide(Policy(), Examine(round=0, routing=True, index=task("group:4").index), ledger)
    sly = task().model_copy(update={"block_weights": {"group:4": 1.0}})
    assert decide(Policy(), sly, ledger)
    for field, value in (("counts", {3: 9, 4: 9}), ("labels", {4: (1, 2)})):
        assert decide(Policy(), task().model_copy(update={field: value}), ledger), field


def test_a_run_that_did_not_enrol_the_site_gets_nothing(tmp_path):
    assert "enrol" in decide(Policy(), task("shared"), Ledger(tmp_path / "empty"))


def test_a_policy_can_require_secure_aggregation(ledger):
    policy = Policy(privacy=PrivacyPolicy(require=("secure-aggregation",)))
    config = Config.from_flat({"federation.secure-aggregation": True})
    assert decide(policy, Enrol(version="1"), ledger, config=config) == ""
    assert "federation.secure-aggregation = false" in decide(policy, Enrol(version="1"), ledger)
    both = Policy(privacy=PrivacyPolicy(require=("secure-aggregation", "site")))
    assert "privacy.mode = none" in decide(both, Enrol(version="1"), ledger, config=config)


def test_a_task_whose_answer_would_not_be_masked_as_the_run_says_is_refused(ledger):
    secure = Secure(slot=0, observers={})
    masked, clear = task().model_copy(update={"secure": secure}), task()
    run = Config.from_flat({"federation.secure-aggregation": True})
    assert "differ in whether answers are masked" in decide(Policy(), clear, ledger, config=run)
    assert "differ in whether answers are masked" in decide(Policy(), masked, ledger)
    assert decide(Policy(), masked, ledger, config=run) == ""
    strange = task().model_copy(update={"secure": Secure(slot=0, observers={"group:4": ("a", "b", "c")})})
    assert "did not enrol" in decide(Policy(), strange, ledger, config=run)


def test_steps_on_a_sum_with_shared_noise_are_allowed_where_epsilon_is_limited(ledger):
    """Limits on steps are for plain gradients; without a limit on ε a run could ask for next to no noise."""
    run = wants(mode="joint")
    run = run.model_copy(update={"train": run.train.model_copy(update={"local_steps": 1})})
    limited = Policy(minimum_steps=5, privacy=PrivacyPolicy(require=("joint",), epsilon_per_run=8.0))
    assert decide(limited, Enrol(version="1"), ledger, config=run) == ""
    assert "epsilon_per_run allows steps" in decide(Policy(minimum_steps=5), Enrol(version="1"), ledger, config=run)
    few_rounds = limited.model_copy(update={"rounds_per_run": 3})
    assert "rounds; the most is 3" in decide(few_rounds, Enrol(version="1"), ledger, config=run)


def test_a_run_waits_for_the_approval_of_its_configuration(ledger):
    config, other = Config(), Config.from_flat({"seed": 5})
    policy = Policy(approval=True)
    said = decide(policy, Enrol(version="1"), ledger, config=config)
    assert f"remind-site approve {fingerprint(config)}" in said
    ledger.approve(fingerprint(config))
    assert decide(policy, Enrol(version="1"), ledger, config=config) == ""
    assert "not approved" in decide(policy, Enrol(version="1"), ledger, config=other)
    ledger.approve(fingerprint(config), approved=False)
    assert "not approved" in decide(policy, Enrol(version="1"), ledger, config=config)
    assert decide(Policy(), Enrol(version="1"), ledger, config=other) == "", "optional"


def test_listed_configurations(ledger):
    listed = Config.from_flat({"seed": 1})
    policy = Policy(configurations=(fingerprint(listed),))
    assert decide(policy, task("shared"), ledger, config=listed) == ""
    assert fingerprint(Config()) in decide(policy, task("shared"), ledger, config=Config())


EXACT = {"train.batch": 1, "train.local-steps": 1, "train.optimizer": "sgd"}  # one patient's gradient, as it is


@pytest.mark.parametrize(
    ("asked", "allowed", "words"),
    [
        (EXACT, {}, "train.batch = 1; the least is 16; nor train.local-steps = 1; the least is 2; nor train.optimizer"),
        ({"train.batch": 15}, {}, "train.batch = 15"),
        ({"train.batch": 16}, {}, ""),
        ({"train.batch": 0}, {}, ""),
        ({"train.batch": 15}, {"minimum_batch": 15}, ""),
        ({"train.local-steps": 1}, {}, "train.local-steps = 1"),
        ({"train.local-steps": 1}, {"minimum_steps": 1}, ""),
        ({"train.optimizer": "sgd"}, {}, "allowed: adamw"),
        ({"train.optimizer": "sgd"}, {"optimizers": ("sgd",)}, ""),
        ({}, {"optimizers": ("sgd",)}, "train.optimizer = adamw"),
        ({"train.lr": 0.2}, {}, "a learning rate of 0.2"),
        ({"train.routing-lr": 0.2, "train.residual-rate": 1.0}, {}, "a learning rate of 0.2"),
        ({"train.routing-lr": 0.01, "train.residual-rate": 20.0}, {}, "a learning rate of 0.2"),
        ({"train.lr": 0.2}, {"maximum_learning_rate": 0.2}, ""),
        ({"train.warmup-rounds": 501}, {}, "rounds; the most is 500"),
    ],
)
def test_how_a_run_may_train(asked, allowed, words, ledger):
    """Asked at enrolment already, and again with every task: a run's config may not change in between."""
    for message in (Enrol(version="1"), task("shared")):
        reason = decide(Policy(**allowed), message, ledger, config=Config.from_flat(asked))
        assert words in reason
        assert (reason == "") == (words == "")


def test_the_same_round_asked_for_again_and_again_is_used_up(ledger):
    policy = Policy(rounds_per_run=3, examinations_per_run=2)
    quiet = Config.from_flat({"train.warmup-rounds": 2, "train.routing-rounds": 1})
    assert [decide(policy, task("shared"), ledger, config=quiet) == "" for _ in range(5)] == [True] * 3 + [False] * 2
    examine = Examine(round=0, routing=True, index=())
    answers = [decide(policy, examine, ledger, config=quiet) for _ in range(3)]
    assert [answer == "" for answer in answers] == [True, True, False]
    assert "2 examinations a run" in answers[2]
    ledger.release(1, frozenset({3}))
    assert decide(policy, examine, ledger, config=quiet), "enrolling again gives nothing back"
    ledger.release(2, frozenset({3}))
    assert Ledger(ledger.folder).begin(2, "rounds", 3), "another run has its own"


def test_a_fingerprint_is_of_what_matters():
    same: list[dict[str, Scalar]] = [{}, {"results": "x"}, {"device": "cuda"}, {"threads": 3}, {"sinks": "mlflow"}]
    assert len({fingerprint(Config.from_flat(values)) for values in same}) == 1
    other: list[dict[str, Scalar]] = [{}, {"seed": 1}, {"train.lr": 0.1}]
    other += [{"federation.encoders": "shared"}, {"train.local-steps": 21}]
    assert len({fingerprint(Config.from_flat(values)) for values in other}) == len(other)


def test_what_the_noise_of_shared_steps_follows_from_is_in_the_fingerprint():
    """Hospitals with other numbers of repetitions would count on noise of each other that is not there."""
    one, other = wants(mode="joint"), wants(mode="joint")
    other = other.model_copy(update={"federation": other.federation.model_copy(update={"retries": 9})})
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(Config()) == fingerprint(Config.from_flat({"federation.retries": 9}))


def test_weights_that_a_run_names_must_be_allowed(ledger):
    assert set(named_models(Config()).values()) == {"pretrained", "words"}
    for backbone in ("hf-hub:someone/model", "local-dir:/data", "someone/model"):
        fetched = Config.from_flat({"model.encoders.image": backbone})
        assert backbone in decide(Policy(), Enrol(version="1"), ledger, config=fetched)
    assert not decide(
        Policy(), Enrol(version="1"), ledger, config=Config.from_flat({"model.encoders.image": "resnet50"})
    )
    wanted = Config.from_flat({"model.encoders.image-weights": "/etc/passwd"})
    assert "/etc/passwd" in decide(Policy(), Enrol(version="1"), ledger, config=wanted)
    assert decide(Policy(models=("pretrained", "words", "/etc/*")), Enrol(version="1"), ledger, config=wanted) == ""


# bundles


@pytest.mark.parametrize(
    ("policy", "bundle", "words"),
    [
        ({}, {"code": ("a.py",)}, "only bundles of configuration"),
        ({}, {"component": "os:system"}, "only bundles of configuration"),
        ({}, {"app": "stranger/app"}, "stranger/app"),
        ({"bundles": ("b" * 64,)}, {}, "only listed bundles"),
        ({"bundles": (HASH,)}, {"code": ("a.py",)}, "only bundles of configuration"),
        ({"code_bundles": ("b" * 64,)}, {"code": ("a.py",)}, "only bundles of configuration"),
        ({"bundles": (HASH,)}, {}, ""),
        ({"code_bundles": (HASH,)}, {"code": ("a.py",), "component": "a:app"}, ""),
        ({"runs": ("stranger/*",)}, {"app": "stranger/app"}, ""),
        ({"runs": ()}, {}, "does not allow runs"),
    ],
)
def test_bundles(policy, bundle, words):
    asked = Bundle(**({"sha256": HASH, "app": BUNDLE.app, "component": OURS, "code": ()} | bundle))
    if not words:
        require_bundle(Policy(**policy), asked)
        return
    with pytest.raises(RefusedError, match=words):
        require_bundle(Policy(**policy), asked)


def test_code_that_could_never_run_is_a_mistake_in_the_policy():
    with pytest.raises(ValidationError, match="never run"):
        Policy(bundles=("b" * 64,), code_bundles=(HASH,))


def test_a_policy_digest_changes_with_the_policy():
    assert Policy().digest == Policy().digest
    assert Policy().digest != Policy(minimum_patients=11).digest


# the ledger


def test_rounds_are_counted_per_day_and_survive_restarts(tmp_path):
    day = date(2026, 3, 4)
    assert [Ledger(tmp_path).begin_round(day, 3) for _ in range(4)] == [True, True, True, False]
    assert Ledger(tmp_path).rounds(day) == 3
    assert Ledger(tmp_path).begin_round(day + timedelta(days=1), 3)
    assert Ledger(tmp_path).begin_round(day, None), "the day is counted even without a limit"


def test_a_damaged_ledger_stops_training(tmp_path):
    (tmp_path / "rounds.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Ledger(tmp_path).begin_round(date(2026, 3, 4), 3)


# privacy


def wants(**changes: float | str) -> Config:
    """A run's config with a guarantee; what else such a run must not use is of no matter here."""
    config = Config()
    values = {"mode": "site", "epsilon": 4.0, "delta": 1e-5, **changes}
    return config.model_copy(update={"privacy": config.privacy.model_copy(update=values)})


@pytest.mark.parametrize(
    ("privacy", "config", "words"),
    [
        ({}, Config(), ""),
        ({"require": ("site",)}, wants(), ""),
        ({"require": ("site",)}, Config(), "this run has privacy.mode = none"),
        ({"require": ("site",), "epsilon_per_run": 4.0}, wants(), ""),
        ({"require": ("site",), "epsilon_per_run": 3.9}, wants(), "an epsilon of 3.9 a run; this run has"),
        ({"require": ("site",), "epsilon_for_life": 3.0}, wants(), "an epsilon of 3 a run; this run has"),
        ({"require": ("site",)}, wants(mode="joint"), "own noise (policy.privacy.require = 'site'); this run has"),
        ({"require": ("joint",), "epsilon_per_run": 4.0}, wants(mode="joint"), ""),
        ({"require": ("joint",), "epsilon_per_run": 4.0}, wants(), ""),
        ({"require": ("joint",), "epsilon_per_run": 3.9}, wants(mode="joint"), "an epsilon of 3.9 a run; this run has"),
        ({"require": ("joint",)}, Config(), "a guarantee for each patient"),
        ({"require": ("joint",)}, wants(mode="joint", colluding=0), "this run has privacy.colluding = 0"),
        ({"require": ("joint",), "colluding": 2}, wants(mode="joint"), "holds if 2 hospitals take theirs off"),
        ({"require": ("joint",), "colluding": 2}, wants(), ""),
        ({"delta": 1e-6}, wants(mode="joint"), "privacy.delta = 1e-05"),
        ({"delta": 1e-6}, wants(), "privacy.delta = 1e-05"),
        ({"delta": 1e-6}, Config(), ""),
    ],
)
@pytest.mark.parametrize("message", [Enrol(version="1"), task("shared")])
def test_a_run_that_does_not_give_what_is_required_is_refused(privacy, config, words, message, ledger):
    reason = decide(Policy(privacy=PrivacyPolicy(**privacy)), message, ledger, config=config)
    assert words in reason
    assert bool(words) == bool(reason)
