"""``remind consortium`` as it is typed: mistakes are one message each, and change nothing."""

import io
import subprocess
import sys
import zipfile

import pytest
from typer.testing import CliRunner

from remind.errors import UserError
from remind_server.consortium.command import consortium_command
from remind_server.consortium.flower import app_bundle, bundle_hash
from remind_server.simulation.app_config import app_toml


def typed(*arguments, **env):
    """Run the command in this process: exit code, standard output, standard error. A `UserError` has the code 1."""
    done = CliRunner().invoke(consortium_command, [str(a) for a in arguments], env=env)
    if isinstance(done.exception, UserError):
        return subprocess.CompletedProcess(arguments, 1, done.stdout, f"{done.stderr}error: {done.exception}")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def heart(tmp_path_factory):
    where = tmp_path_factory.mktemp("consortium") / "heart"
    done = typed(
        "init", where, "--name", "heart", "--host", "localhost", "--port", "18443", REMIND_CA_PASSPHRASE="correct horse"
    )
    assert done.returncode == 0, done.stderr
    return where


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["init", "{}/new", "--name", "n", "--host", "h"], "--unencrypted-ca-key"),
        (["init", "{}", "--name", "n", "--host", "h", "--unencrypted-ca-key"], "is not empty"),
        (["kit", "{}"], "give one or more site names"),
        (["kit", "{}", "bern", "--all"], "give one or more site names"),
        (["enrol", "{}", "/nowhere.json"], "/nowhere.json"),
        (["enrol", "{}", "{}/consortium.toml"], "not an enrolment request"),
        (["revoke", "{}", "bern"], "no site 'bern'"),
        (["renew", "{}"], "--passphrase-file"),
        (["rollover", "{}", "sideways"], "start, switch or finish|start, switch, finish"),
        (["run", "{}", "-c", "train.lrr=1"], "train.lrr"),
        (["run", "{}", "-c", "train.lr=1"], "no SuperLink answers"),
        (["runs", "{}"], "remind consortium serve"),
        (["list", "/nowhere"], "remind consortium init"),
        (["serve", "/nowhere"], "remind consortium init"),
    ],
)
def test_mistakes(heart, arguments, said):
    done = typed(*(a.replace("{}", str(heart)) for a in arguments))
    assert done.returncode == 1
    assert any(part in done.stderr for part in said.split("|")), done.stderr


def test_the_program_ends_a_mistake_with_one_line():
    command = [sys.executable, "-m", "remind_server.consortium", "list", "/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "remind consortium init" in done.stderr
    assert "Traceback" not in done.stderr


def test_renewing_with_a_passphrase(heart, tmp_path):
    word = tmp_path / "word"
    word.write_text("correct horse\n")
    assert typed("renew", heart, "--passphrase-file", word).returncode == 0
    done = typed("renew", heart, REMIND_CA_PASSPHRASE="wrong horse battery")
    assert (done.returncode, "passphrase is wrong" in done.stderr) == (1, True)


def test_list_without_a_superlink(heart):
    done = typed("list", heart)
    assert done.returncode == 0
    assert "no SuperLink answers" in done.stdout


def test_the_bundle_is_configuration_and_the_same_as_flower_would_build(heart, tmp_path):
    from flwr.cli.build import build_fab_from_disk

    bundle = app_bundle()
    (tmp_path / "pyproject.toml").write_text(app_toml())
    assert bundle == build_fab_from_disk(tmp_path)
    names = zipfile.ZipFile(io.BytesIO(bundle)).namelist()
    assert [name for name in names if not name.startswith(".info/")] == ["pyproject.toml"]
    assert typed("bundle", heart).stdout.strip() == bundle_hash(bundle)


def test_the_library_of_commands_stays_light():
    """`remind` reads the module of every command before it does anything."""
    heavy = {"flwr", "torch", "cryptography", "pydantic"}
    code = f"import sys, remind_server.consortium.command; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_service_and_commands_that_only_read_load_no_libraries_of_a_run():
    """These take seconds and hundreds of megabytes, and `serve` runs for years."""
    heavy = {"torch", "scipy", "pyarrow", "remind_server.rounds.strategy"}
    modules = ", ".join(f"remind_server.consortium.{name}" for name in ("serve", "listing", "run_record", "preflight"))
    code = f"import sys, {modules}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_check_says_what_is_wrong_and_ends_with_10(heart):
    secret = heart / "secrets" / "superexec"
    secret.chmod(0o644)
    try:
        done = typed("check", heart)
    finally:
        secret.chmod(0o600)
    assert (done.returncode, f"chmod 600 {secret}" in done.stderr) == (10, True)
