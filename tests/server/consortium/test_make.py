"""A new consortium's folder, its settings and its kits."""

import itertools
import re
import tomllib

import pytest

from remind.errors import UserError
from remind_server.consortium import make as make_module
from remind_server.consortium.folder import Folder, write_file
from remind_server.consortium.kit import write_kit
from remind_server.consortium.make import make
from remind_server.consortium.settings import Consortium, read_settings, settings_toml


def test_everything_is_its_owners_alone(folder):
    for path in [folder.root, *folder.root.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("content", ["a file", "a consortium"])
def test_nothing_is_overwritten(tmp_path, content):
    root = tmp_path / "there"
    if content == "a file":
        root.mkdir()
        (root / "thesis.tex").write_text("years of work")
    else:
        make(root, "heart", ["a.example"], 443, "", None, 10, 10)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="not empty"):
        make(root, "lung", ["b.example"], 443, "", None, 10, 10)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(make_module, "create", full)
    with pytest.raises(UserError, match="No space left"):
        make(tmp_path / "heart", "heart", ["a.example"], 443, "", None, 10, 10)
    assert list(tmp_path.iterdir()) == []


def test_an_encrypted_ca_key(tmp_path):
    folder = make(tmp_path / "heart", "heart", ["a.example"], 443, "", b"correct horse battery", 10, 10)
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in folder.ca_key.read_bytes()


@pytest.mark.parametrize("listen", ["", "0.0.0.0:8443", "[::]:8443", "127.0.0.1:8443"])
def test_settings_are_read_as_written(tmp_path, listen):
    folder = make(tmp_path / "heart", "heart", ["a.example", "::1"], 443, listen, None, 10, 10)
    settings = folder.settings
    assert read_settings(folder.settings_file) == settings
    assert Consortium.model_validate(tomllib.loads(settings_toml(settings))) == settings
    assert settings.address == "a.example:443"
    assert settings.proxy.port == (8443 if listen else 443)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "a b"}, "name"),
        ({"hosts": ["a b"]}, "neither a host name nor an IP address"),
        ({"hosts": ["300.1.1.1"]}, "neither a host name nor an IP address"),
        ({"hosts": ["a.example;return 200"]}, "neither a host name nor an IP address"),
        ({"hosts": []}, "at least one host"),
        ({"port": 0}, "port"),
        ({"port": 18000}, "must differ"),
        ({"listen": "8443"}, "ADDRESS:PORT"),
        ({"listen": "nowhere:8443"}, "proxy.address"),
    ],
)
def test_settings_that_are_not_valid(tmp_path, values, said):
    given = {"name": "heart", "hosts": ["a.example"], "port": 443, "listen": ""} | values
    with pytest.raises(UserError, match=said):
        make(tmp_path / "heart", **given, passphrase=None, ca_days=10, days=10)
    assert list(tmp_path.iterdir()) == []


def test_a_slip_in_the_file_is_named(folder):
    text = folder.settings_file.read_text()
    write_file(folder.settings_file, text.replace("superlink =", "superlnik =").encode())
    with pytest.raises(UserError, match=r"consortium\.toml is not valid[\s\S]*local\.superlnik"):
        _ = Folder(folder.root).settings
    write_file(folder.settings_file, b"name = [")
    with pytest.raises(UserError, match="is not valid TOML"):
        _ = Folder(folder.root).settings
    with pytest.raises(UserError, match="remind consortium init"):
        _ = Folder(folder.root / "nowhere").settings


def test_a_write_leaves_the_old_or_the_new(folder, monkeypatch):
    before = folder.superexec_secret.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(folder.superexec_secret, b"new")
    assert folder.superexec_secret.read_bytes() == before
    assert len(list(folder.superexec_secret.parent.iterdir())) == 1


def test_a_kit_holds_nothing_secret(folder, tmp_path):
    kit = write_kit(folder, "bern", tmp_path / "kits")
    content = b"".join(path.read_bytes() for path in kit.rglob("*"))
    assert b"PRIVATE" not in content
    secret_lines = {folder.superexec_secret.read_bytes()}
    for path in (folder.ca_key, folder.server, folder.loopback):
        blocks = re.findall(rb"-----BEGIN (?:EC )?PRIVATE KEY-----\n(.*?)-----END", path.read_bytes(), re.DOTALL)
        assert blocks, path
        secret_lines |= set(itertools.chain.from_iterable(block.split() for block in blocks))
    assert not [line for line in secret_lines if line in content]
    assert sorted(path.name for path in kit.iterdir()) == ["README.md", "ca.crt", "site.toml"]


def test_a_kit_says_where_to_connect(folder, tmp_path):
    kit = write_kit(folder, "bern", tmp_path)
    settings = tomllib.loads((kit / "site.toml").read_text())
    assert settings["coordinator"]["consortium"] == "heart"
    assert settings["coordinator"]["address"] == "coordinator.example.org:443"
    assert (kit / "ca.crt").read_bytes() == folder.trust.read_bytes()


def test_a_kit_is_not_overwritten(folder, tmp_path):
    write_kit(folder, "bern", tmp_path)
    with pytest.raises(UserError, match="exists already"):
        write_kit(folder, "bern", tmp_path)


def test_a_key_that_strayed_into_the_trust_file_stays_here(folder, tmp_path):
    folder.trust.write_bytes(folder.trust.read_bytes() + folder.ca_key.read_bytes())
    with pytest.raises(UserError, match="private key"):
        write_kit(folder, "bern", tmp_path / "kits")
    assert not (tmp_path / "kits").exists()


def test_a_kits_name_cannot_leave_its_folder(folder, tmp_path):
    with pytest.raises(UserError, match=r"'\.\./bern'"):
        write_kit(folder, "../bern", tmp_path / "kits")
