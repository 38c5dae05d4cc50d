"""`alerts.toml`: what is wrong is said with its field and without its value; others must not read it."""

import pytest

from remind.alerts.message import KINDS
from remind.alerts.settings import VARIABLE, Alerts, read_alerts
from remind.errors import UserError

GOOD = """
[[webhook]]
url = "https://hooks.example/T0/secret"
headers = { Authorization = "Bearer s3cret" }
events = ["site-missing"]

[[command]]
run = ["mail", "-s", "{subject}", "ops@example.org"]
"""


def file(tmp_path, text, mode=0o600):
    path = tmp_path / "alerts.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_both_kinds_of_target(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    file(tmp_path, GOOD.replace("mail", "sh"))
    hook, command = read_alerts(tmp_path).targets
    assert (hook.name, hook.events) == ("webhook hooks.example", ("site-missing",))
    assert (command.name, command.events) == ("command sh", KINDS)
    assert read_alerts(tmp_path / "elsewhere").targets == ()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone.toml"))
    with pytest.raises(UserError, match=r"gone.toml: cannot read it"):
        read_alerts(tmp_path)


def test_others_must_not_read_it(tmp_path):
    with pytest.raises(UserError, match="chmod 600"):
        Alerts.read(file(tmp_path, GOOD, 0o644))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("https://", "ftp://"), "webhook 1.url"),
        (("hooks.example/T0/", "hooks.example/T 0/"), "webhook 1.url"),
        (("hooks.example", "hooks.example:99999"), "webhook 1.url"),
        (("Authorization", '"Author ization"'), "webhook 1.headers"),
        (("Bearer s3cret", "Bearer s3cret\\r\\nX: y"), "webhook 1.headers"),
        (("site-missing", "site-late"), "webhook 1.events 1"),
        (('["mail", "-s", "{subject}", "ops@example.org"]', "[]"), "command 1.run"),
        (("[[command]]", "[[commands]]"), "commands"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_repeated(tmp_path, change, field):
    with pytest.raises(UserError) as error:
        Alerts.read(file(tmp_path, GOOD.replace(*change)))
    assert "alerts.toml is not valid:" in str(error.value)
    assert field in str(error.value)
    assert "Input should" not in str(error.value)
    assert "s3cret" not in str(error.value)
    assert "/secret" not in str(error.value)


def test_it_is_toml(tmp_path):
    with pytest.raises(UserError, match="is not valid TOML"):
        Alerts.read(file(tmp_path, "[[webhook]"))


def test_each_problem_is_said_in_words_and_counted_from_one(tmp_path):
    wrong = GOOD + '[[webhook]]\nurl = 3\nevent = ["run-ended"]\n[[command]]\nevents = ["run-end"]\n'
    with pytest.raises(UserError) as error:
        Alerts.read(file(tmp_path, wrong))
    assert str(error.value).splitlines()[1:] == [
        "  - webhook 2.url: must be a text, in quotation marks",
        "  - webhook 2.event: no such setting; did you mean 'events'?; remove it",
        "  - command 2.events 1: must be 'site-missing', 'run-ended', 'certificate-expires' or 'budget-low'; "
        "did you mean 'run-ended'?",
        "  - command 2.run: missing; add it",
    ]


def test_a_program_that_is_not_there_is_found_before_the_first_alert(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    path = file(tmp_path, '[[command]]\nrun = ["sh"]\n[[command]]\nrun = ["no-such-mailer", "-s"]\n')
    with pytest.raises(UserError, match=r"command 2\.run: there is no program 'no-such-mailer'; install it"):
        read_alerts(tmp_path)
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(UserError, match="no-such-mailer"):
        read_alerts(tmp_path / "elsewhere")
