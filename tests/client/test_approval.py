"""Approving runs from the command line, and a new key."""

import pytest
from typer.testing import CliRunner

from remind.config import Config, Scalar
from remind.consortium.enrolment import public_key_text, verify_request
from remind.consortium.roster import roster_text
from remind.errors import UserError
from remind.federation.flower import from_record, to_record
from remind.federation.messages import Enrol, Refusal
from remind.privacy_plan import SOME, plan_of
from remind.version import VERSION
from remind_client.approval import set_approval, waiting
from remind_client.audit.events import Asked
from remind_client.command import app
from remind_client.identity import new_private_key
from remind_client.initialise import REQUEST, initialise
from remind_client.launcher.door import Door
from remind_client.policy import configurations
from remind_client.policy.rules import fingerprint
from remind_client.run_plan import NO_GUARANTEE, plan_lines
from tests.builders.bundles import fab
from tests.builders.configs import settings
from tests.builders.site_files import asked as message
from tests.builders.site_files import context, write_site

PRINT = fingerprint(Config())


def asked(site, run, configuration=PRINT):
    bundle = "b" * 64
    site.audit_log.append(Asked(run=run, request="query", app="a/b", bundle=bundle, configuration=configuration))


def test_what_was_asked_waits_until_it_is_approved(tmp_path):
    site = write_site(tmp_path)
    asked(site, "7")
    asked(site, "8", "c" * 64)
    asked(site, "9")
    asked(site, "9", "")
    assert waiting(site) == {"c" * 64: "8", PRINT: "9"}
    set_approval(site, PRINT, True)
    assert waiting(site) == {"c" * 64: "8"}
    set_approval(site, PRINT, False)
    assert waiting(site) == {"c" * 64: "8", PRINT: "9"}
    events = [(e["event"], e["configuration"]) for e in site.audit_log.entries() if e["event"] != "asked"]
    assert events == [("approved", PRINT), ("withdrawn", PRINT)]


@pytest.mark.parametrize("wrong", ["", "5", "z" * 64, PRINT.upper(), PRINT + "0"])
def test_what_is_no_fingerprint_is_not_approved(tmp_path, wrong):
    site = write_site(tmp_path)
    with pytest.raises(UserError, match="not a fingerprint"):
        set_approval(site, wrong, True)
    assert site.ledger.approved() == frozenset()


def test_the_command(tmp_path):
    site = write_site(tmp_path)
    asked(site, "7")
    config = ["-c", str(tmp_path)]
    assert f"{PRINT}  last requested by run 7" in CliRunner().invoke(app, ["approve", *config]).output
    assert CliRunner().invoke(app, ["approve", PRINT, *config]).exit_code == 0
    assert CliRunner().invoke(app, ["approve", *config]).output == ""


JOINT: dict[str, Scalar] = {
    "privacy.mode": "joint",
    "privacy.noise": 5.0,
    "federation.secure-aggregation": True,
    "federation.encoders": "shared",
    "train.local-steps": 1,
    "evaluation.calibration": "none",
    "method.objective": "erm",
}


def test_what_waits_for_approval_says_what_it_would_cost_before_anything_is_spent(tmp_path):
    """As the door keeps it when a run asks: ε of the run, and what is left if the others leave their noise out."""
    site = write_site(
        tmp_path,
        '[policy]\nruns = ["*"]\napproval = true\n[policy.privacy]\nrequire = ["joint"]\nepsilon_per_run = 8.0\n',
    )
    config = settings(JOINT)
    enrol = to_record(Enrol(version=VERSION))
    reply = Door(site).answer(fab(), message(enrol, "query"), context(site, **config.flat()), lambda bundle: None)
    refusal, _ = from_record(reply.content)
    assert isinstance(refusal, Refusal)
    assert "has not approved" in refusal.reason
    said = CliRunner().invoke(app, ["approve", "-c", str(tmp_path)]).output
    plan = plan_of(config, SOME)
    assert f"costs a training patient epsilon {plan.epsilon:.3g} at delta 1e-05" in said
    assert f"if up to 3 share it: epsilon {plan.own[3]:.3g} of a training patient" in said
    assert "privacy.noise = 5.0" in said
    assert "seed" not in said.partition("settings:")[2], "the defaults are not listed"
    assert site.privacy_ledger.spends() == []
    form = CliRunner().invoke(app, ["ledger", "7", "--form", "-c", str(tmp_path)]).output
    assert f"- {plan.lines()[0]}" in form
    assert "Nothing has been spent yet." in form
    assert f"(e to the epsilon of {max(plan.own.values()):.3g})" in form.partition("## Residual risk")[2]
    assert "None per patient" not in form


def test_the_roster_says_how_many_may_share_the_noise(tmp_path):
    keys = {name: public_key_text(new_private_key(tmp_path / f"{name}.key").public_key()) for name in "abcde"}
    (tmp_path / "roster.toml").write_text(roster_text(keys))
    site = write_site(tmp_path, "").model_copy(update={"roster": "roster.toml"})
    plan = plan_of(settings(JOINT), [5])
    assert plan_lines(site, settings(JOINT)) == plan.lines()
    assert plan_lines(site, settings({})) == [NO_GUARANTEE]


def test_kept_configs_are_whole_or_not_there_and_not_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(configurations, "MOST", 3)
    kept = configurations.Configurations(tmp_path / "kept")
    several = [Config.from_flat({"seed": seed}) for seed in range(5)]
    for each in several:
        kept.keep(each)
    found = [kept.of(fingerprint(each)) for each in several]
    assert found == [None, None, *several[2:]]
    (tmp_path / "kept" / f"{fingerprint(several[4])}.json").write_text("{")
    (tmp_path / "kept" / f"{fingerprint(several[3])}.json").write_text('{"seed": 9}')
    assert [kept.of(fingerprint(each)) for each in several[3:]] == [None, None]


def test_a_new_key_puts_the_old_one_aside(tmp_path):
    kit = tmp_path / "kit"
    kit.mkdir()
    (kit / "ca.crt").write_text("certificate")
    (kit / "site.toml").write_text(
        'site = "north"\n[coordinator]\nconsortium = "heart"\naddress = "localhost:1"\nca_certificate = "ca.crt"\n'
    )
    folder = tmp_path / "site"
    first = initialise(kit, folder, str(tmp_path), "")
    key = (folder / "site.key").read_bytes()
    again = initialise(kit, folder, "", "")
    assert again.fingerprint == first.fingerprint
    new = initialise(kit, folder, "", "", new_key=True)
    assert new.fingerprint != first.fingerprint
    assert verify_request((folder / REQUEST).read_text()).fingerprint == new.fingerprint
    (old,) = [path for path in folder.glob("site.key.old-*") if path.suffix != ".pub"]
    assert old.read_bytes() == key
    assert old.stat().st_mode & 0o777 == (folder / "site.key").stat().st_mode & 0o777 == 0o600
    assert old.with_name(f"{old.name}.pub").exists()
