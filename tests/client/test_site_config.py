"""site.toml, `init`, the behaviour of the commands, and the generated pages."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel

from remind.consortium.enrolment import verify_request
from remind.errors import UserError
from remind_client import exit_codes
from remind_client.exit_codes import Exit
from remind_client.identity import new_private_key, read_private_key
from remind_client.initialise import TEMPLATE, initialise
from remind_client.site_config import SiteConfig, load_site_config
from remind_client.vault.key import new_key_file
from remind_client.vault.vault import PlainVault, SealedVault
from tests.builders.kits import kit
from tests.builders.site_files import TOML, write_site

ROOT = Path(__file__).parents[2]


def command(*arguments: str | Path) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "remind_client", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=480, check=False)


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    site = write_site(tmp_path / "site")
    monkeypatch.chdir("/")
    assert site.path(site.cohort) == tmp_path / "site" / "cohort"
    assert site.path("/data") == Path("/data")
    assert site.state_folder == tmp_path / "site" / "state"
    assert site.runs_folder.is_relative_to(site.state_folder)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("speed = 1", "speed: no such setting"),
        ("[policy]\nminimum_patients = 0", "policy.minimum_patients"),
        ('[policy]\nminimum_patients = "10"', "policy.minimum_patients"),
        ('[policy]\nhours = ["whenever"]', "no time window"),
        ('[policy]\nbundles = ["abc"]', "policy.bundles"),
        ('[policy]\nrequire = ["noise"]', "[policy.privacy] require = ['site']"),
        ('[policy.privacy]\nrequire = ["luck"]', "policy.privacy.require"),
        ("[policy.privacy]\nepsilon_per_run = 3.0", "add require = ['site']"),
        ('[policy.privacy]\nrequire = ["site"]\nepsilon_per_run = 9.0\nepsilon_for_life = 8.0', "can ever give"),
        ('[policy.privacy]\nrequire = ["site"]\nepsilon_for_life = inf', "policy.privacy.epsilon_for_life"),
        ("[policy.privacy]\ndelta = 0.0", "policy.privacy.delta"),
        ('[vault]\nkey_file = "a"\nkey_env = "b"', "keep one"),
        ('[vault]\nenabled = false\nkey_file = "a"', "take one of the two out"),
        ("[retention]\nruns = 0", "retention.runs"),
        ("[audit]\nrotate_mb = 0", "audit.rotate_mb"),
    ],
)
def test_every_mistake_is_named(tmp_path, more, words):
    with pytest.raises(UserError) as caught:
        write_site(tmp_path, more)
    assert words in str(caught.value)
    assert "site.toml" in str(caught.value)


def test_several_mistakes_are_named_at_once(tmp_path):
    with pytest.raises(UserError) as caught:
        write_site(tmp_path, "[policy]\nspeed = 1\nminimum_patients = -3\n[vault]\nx = 2")
    assert all(words in str(caught.value) for words in ("policy.speed", "policy.minimum_patients", "vault.x", "-3"))


@pytest.mark.parametrize(
    "text", ["", "site = ", 'base = "/"\n' + TOML.format(more=""), TOML.replace("127.0.0.1:1", "nowhere")]
)
def test_files_that_are_none(tmp_path, text):
    (tmp_path / "site.toml").write_text(text)
    with pytest.raises(UserError, match=r"site\.toml"):
        load_site_config(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        load_site_config(tmp_path / "nowhere.toml")


def test_memory_is_limited_on_a_cpu_alone(tmp_path):
    text = TOML.format(more="").replace("threads = 1", "memory_gb = 2.5")
    (tmp_path / "site.toml").write_text(text)
    assert load_site_config(tmp_path).resources.memory_gb == 2.5
    (tmp_path / "site.toml").write_text(text.replace('"cpu"', '"cuda"'))
    with pytest.raises(UserError, match="memory_gb"):
        load_site_config(tmp_path)


def test_the_vault_is_as_configured(tmp_path):
    assert isinstance(write_site(tmp_path / "a", "[vault]\nenabled = false").open_vault(), PlainVault)
    key = new_key_file(tmp_path / "key")
    vault = write_site(tmp_path / "b", f'[vault]\nkey_file = "{tmp_path / "key"}"').open_vault()
    assert isinstance(vault, SealedVault)
    assert vault.keys == [key]


# init


def test_init_makes_a_site_from_a_kit(tmp_path):
    made = initialise(kit(tmp_path / "kit"), tmp_path / "site", "cohort", "46.5,6.6")
    site = load_site_config(made.config)
    assert (site.site, site.kit().address, site.kit().consortium) == ("north", "fl.example.org:443", "test")
    assert site.path(site.cohort) == Path("cohort").absolute()
    assert site.key_path.stat().st_mode & 0o777 == 0o600
    assert made.vault_key == site.vault_key_path == tmp_path / "site" / "vault.key"
    assert made.vault_key.stat().st_mode & 0o777 == 0o600
    assert isinstance(site.open_vault(), SealedVault)
    request = verify_request(made.request.read_text())
    assert (request.site, request.consortium, request.location) == ("north", "test", "46.5,6.6")
    assert request.fingerprint == made.fingerprint
    assert site.key_path.with_name("site.key.pub").read_text().strip() == request.public_key
    assert {p.name for p in (tmp_path / "kit").iterdir()} == {"ca.crt", "site.toml"}, "the kit is as it was"


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")
def test_the_fingerprint_is_what_ssh_keygen_prints(tmp_path):
    made = initialise(kit(tmp_path / "kit"), tmp_path / "site", "cohort", "")
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", tmp_path / "site" / "site.key"], capture_output=True, text=True, check=True
    )
    assert made.fingerprint in shown.stdout
    assert "384" in shown.stdout


def test_init_again_keeps_the_key_and_makes_a_new_request(tmp_path):
    first = initialise(kit(tmp_path / "kit"), tmp_path / "site", "cohort", "")
    text, key = first.request.read_text(), (tmp_path / "site" / "site.key").read_bytes()
    vault_key = first.vault_key.read_bytes()
    second = initialise(tmp_path / "kit", tmp_path / "site", "", "")
    assert (second.vault_key, first.vault_key.read_bytes()) == (None, vault_key)
    assert (tmp_path / "site" / "site.key").read_bytes() == key
    assert second.fingerprint == first.fingerprint
    assert second.request.read_text() != text, "a coordinator takes a request only once"


def test_init_in_the_kit_itself(tmp_path):
    """As the kit's own README has it: complete its site.toml, then make the key."""
    folder = kit(tmp_path / "kit", cohort="data")
    made = initialise(folder, folder, "", "")
    site = load_site_config(made.config)
    assert site.path(site.cohort) == folder / "data"
    assert read_private_key(site.key_path)


def test_init_with_a_kit_that_is_none(tmp_path):
    for change, words in (("[coordinator]", "coordinator"), ("address", "address")):
        folder = kit(tmp_path / words)
        text = (folder / "site.toml").read_text()
        (folder / "site.toml").write_text(text.replace(change, change.replace("coord", "x").replace("address", "adr")))
        with pytest.raises(UserError, match="kit again"):
            initialise(folder, tmp_path / "site", "cohort", "")
    folder = kit(tmp_path / "kit")
    with pytest.raises(UserError, match="--cohort"):
        initialise(folder, tmp_path / "site", "", "")
    (folder / "ca.crt").unlink()
    with pytest.raises(UserError, match=r"ca\.crt"):
        initialise(folder, tmp_path / "site", "cohort", "")
    with pytest.raises(UserError, match="cannot be read"):
        initialise(tmp_path / "nowhere", tmp_path / "site", "cohort", "")


def test_keys_that_flower_does_not_take(tmp_path):
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    other = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "p256").write_bytes(other.private_bytes(*formats, serialization.NoEncryption()))
    new_private_key(tmp_path / "key")
    if shutil.which("ssh-keygen"):
        make = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "secret", "-f", tmp_path / "locked"]
        subprocess.run(make, check=True)
        with pytest.raises(UserError, match="passphrase"):
            read_private_key(tmp_path / "locked")
    (tmp_path / "none").write_text("key")
    for name, words in (("p256", "P-384"), ("none", "OpenSSH"), ("nowhere", "cannot read")):
        with pytest.raises(UserError, match=words):
            read_private_key(tmp_path / name)
    with pytest.raises(UserError, match="exists"):
        new_private_key(tmp_path / "key")


# what is printed, and what is documented


def test_the_template_says_the_defaults(tmp_path):
    """A setting in the template that is not commented out says what would hold without it."""
    values = dict.fromkeys(("site", "key", "cohort", "consortium", "address"), '"x"') | {"address": '"x:1"'}
    written = tomllib.loads(TEMPLATE.format(**values))
    plain = SiteConfig.model_validate({k: written[k] for k in ("site", "cohort", "coordinator")})
    assert SiteConfig.model_validate_json(__import__("json").dumps(written)).model_dump(
        exclude={"key"}
    ) == plain.model_dump(exclude={"key"})


def test_every_setting_is_described():
    def fields(model: type[BaseModel]):
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from fields(inner)
            elif name != "base":
                yield name, field.description

    assert not [name for name, description in fields(SiteConfig) if not description]


def test_every_setting_of_the_policy_is_in_the_hospital_guide():
    guide = (ROOT / "docs" / "hospital-guide.md").read_text()
    from remind_client.policy.rules import Policy

    assert not [name for name in Policy.model_fields if f"`{name}`" not in guide]


def test_the_page_of_exit_codes_is_as_the_code_says():
    assert (ROOT / "docs" / "exit-codes-site.md").read_text() == exit_codes.to_markdown()
    assert set(exit_codes.MEANINGS) == set(Exit)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["check", "-c", "nowhere"], Exit.MISTAKE),
        (["run", "-c", "nowhere"], Exit.MISTAKE),
        (["init", "nowhere"], Exit.MISTAKE),
        (["audit", "verify", "-c", "nowhere"], Exit.MISTAKE),
        (["nonsense"], Exit.USAGE),
    ],
)
def test_a_mistake_is_one_message(arguments, code):
    done = command(*arguments)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_vaults_exit_code(tmp_path):
    write_site(tmp_path, f'[vault]\nkey_file = "{tmp_path / "key"}"')
    new_key_file(tmp_path / "key")
    new_key_file(tmp_path / "new")
    site = load_site_config(tmp_path)
    site.runs_folder.mkdir(parents=True)
    site.open_vault().write(site.runs_folder / "state.pt", lambda out: out.write(b"x"))
    damaged = bytearray((site.runs_folder / "state.pt").read_bytes())
    damaged[-1] ^= 1
    (site.runs_folder / "state.pt").write_bytes(damaged)
    done = command("vault", "rotate", tmp_path / "new", "-c", tmp_path)
    assert done.returncode == Exit.VAULT, done.stderr
    assert "Traceback" not in done.stderr
    (site.runs_folder / "state.pt").write_bytes(b"clear")
    assert command("vault", "seal", "-c", tmp_path).returncode == 0
    assert command("vault", "rotate", tmp_path / "new", "-c", tmp_path).returncode == 0
    os.replace(tmp_path / "new", tmp_path / "key")
    assert site.open_vault().read(site.runs_folder / "state.pt") == b"clear"
