"""Certificates as seen by OpenSSL, which hospitals have, in real handshakes."""

import os
import ssl
from datetime import UTC, datetime, timedelta

import pytest

from remind.errors import UserError
from remind_server.consortium import rollover
from remind_server.consortium.authority import certificate_pem, issue_ca, issue_server, key_pem, load_key, new_key
from remind_server.consortium.certificates import (
    load_certificates,
    renew_loopback,
    renew_server,
    require_valid,
    warnings,
)
from remind_server.consortium.folder import Folder, write_file
from remind_server.consortium.settings import settings_toml


def handshake(server_pem, trust_pem, name):
    """A TLS handshake in memory; raises what a client raises."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(server_pem)
    asking = ssl.create_default_context(cadata=trust_pem.decode())
    asking.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server, server_hostname=name)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return client.version()


def refused(folder, trust, name):
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(folder.server, trust, name)
    return caught.value.verify_message


@pytest.mark.parametrize("name", ["coordinator.example.org", "10.0.0.5"])
def test_hospitals_accept_the_server_under_each_of_its_names(folder, name):
    assert handshake(folder.server, folder.trust.read_bytes(), name) == "TLSv1.3"


@pytest.mark.parametrize("name", ["example.org", "10.0.0.6", "localhost"])
def test_and_under_no_other(folder, name):
    assert "mismatch" in refused(folder, folder.trust.read_bytes(), name)


def test_another_ca_is_not_trusted(folder):
    other = certificate_pem(issue_ca(new_key(), "heart", 10))
    assert refused(folder, other, "10.0.0.5")
    assert refused(folder, folder.loopback_ca.read_bytes(), "10.0.0.5")


def test_an_expired_certificate_is_refused(folder):
    ca_key = load_key(folder.ca_key.read_bytes(), None, "key")
    key, long_ago = new_key(), datetime.now(UTC) - timedelta(days=400)
    expired = issue_server(
        key.public_key(), ["10.0.0.5"], ca_key, load_certificates(folder.ca_certificate)[0], 365, long_ago
    )
    write_file(folder.server, key_pem(key, None) + certificate_pem(expired))
    assert "expired" in refused(folder, folder.trust.read_bytes(), "10.0.0.5")


def test_a_server_certificate_cannot_sign(folder):
    server_key = load_key(folder.server.read_bytes(), None, "key")
    server = load_certificates(folder.server)[0]
    key = new_key()
    forged = issue_server(key.public_key(), ["10.0.0.5"], server_key, server, 10)
    write_file(folder.server, key_pem(key, None) + certificate_pem(forged, server))
    assert refused(folder, folder.trust.read_bytes(), "10.0.0.5")


def test_the_loopback_certificate_is_for_this_machine(folder):
    assert handshake(folder.loopback, folder.loopback_ca.read_bytes(), "localhost")
    assert handshake(folder.loopback, folder.loopback_ca.read_bytes(), "127.0.0.1")


def test_a_server_certificate_never_outlives_its_ca(folder):
    ca_end = load_certificates(folder.ca_certificate)[0].not_valid_after_utc
    assert renew_server(folder, None, days=20 * 365) == ca_end


@pytest.mark.parametrize(
    ("days_left", "said"), [(31, None), (30, "expires in 30 day"), (1, "expires in 1 day"), (-1, "expired")]
)
def test_warnings_begin_30_days_before_the_end(folder, days_left, said):
    end = load_certificates(folder.server)[0].not_valid_after_utc
    told = warnings(folder, end - timedelta(days=days_left))
    if said is None:
        assert told == []
    else:
        (text,) = told
        assert said in text
        assert f"remind consortium renew {folder.root}" in text


def test_an_ended_certificate_is_not_served_and_a_renewed_one_is(folder):
    later = datetime.now(UTC) + timedelta(days=366)
    with pytest.raises(UserError, match="server certificate expired"):
        require_valid(folder, later)
    renew_server(folder, None, days=700)
    require_valid(folder, later)
    assert warnings(folder, later) == []


def test_a_new_host_needs_a_new_certificate(folder):
    public = folder.settings.public.model_copy(update={"hosts": ("new.example.org",)})
    write_file(folder.settings_file, settings_toml(folder.settings.model_copy(update={"public": public})).encode())
    changed = Folder(folder.root)
    (said,) = warnings(changed)
    assert "does not cover new.example.org" in said
    renew_server(changed, None, 365)
    assert warnings(changed) == []
    assert handshake(changed.server, changed.trust.read_bytes(), "new.example.org")


def test_renewing_changes_the_key_and_nothing_else(folder):
    before = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}
    renew_server(folder, None, 365)
    after = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}
    assert {path for path in after if after[path] != before.get(path)} == {folder.server}
    renew_loopback(folder)
    assert handshake(folder.loopback, folder.loopback_ca.read_bytes(), "localhost")


def test_the_ca_key_may_be_kept_elsewhere(folder, tmp_path):
    elsewhere = tmp_path / "safe.key"
    folder.ca_key.rename(elsewhere)
    with pytest.raises(UserError, match="--ca-key"):
        renew_server(folder, None, 365)
    renew_server(folder, None, 365, elsewhere)
    write_file(elsewhere, key_pem(new_key(), None))
    with pytest.raises(UserError, match="is not the key of"):
        renew_server(folder, None, 365, elsewhere)


def test_an_encrypted_ca_key_needs_its_passphrase():
    pem = key_pem(new_key(), b"correct horse battery")
    assert b"ENCRYPTED" in pem
    load_key(pem, b"correct horse battery", "ca.key")
    with pytest.raises(UserError, match="encrypted; give its passphrase"):
        load_key(pem, None, "ca.key")
    with pytest.raises(UserError, match="passphrase is wrong"):
        load_key(pem, b"wrong", "ca.key")
    with pytest.raises(UserError, match="damaged"):
        load_key(pem[:200], b"correct horse battery", "ca.key")


def test_a_new_ca_without_losing_a_hospital(folder):
    """Each hospital has the trust file of some step; the server must be accepted until the next step is done."""
    name = "10.0.0.5"
    kits = {"old": folder.trust.read_bytes()}
    rollover.start(folder, None, 3650)
    kits["both"] = folder.trust.read_bytes()
    assert handshake(folder.server, kits["old"], name)
    assert handshake(folder.server, kits["both"], name)
    rollover.switch(folder, None, 365)
    assert refused(folder, kits["old"], name)
    assert handshake(folder.server, kits["both"], name)
    rollover.finish(folder)
    kits["new"] = folder.trust.read_bytes()
    assert handshake(folder.server, kits["both"], name)
    assert handshake(folder.server, kits["new"], name)
    assert warnings(folder) == []
    rollover.start(folder, None, 3650)  # and again, in ten years


def test_steps_of_a_rollover_only_in_their_order(folder):
    with pytest.raises(UserError, match="rollover start"):
        rollover.switch(folder, None, 365)
    with pytest.raises(UserError, match="no rollover to finish"):
        rollover.finish(folder)
    rollover.start(folder, None, 3650)
    with pytest.raises(UserError, match="no rollover to finish"):
        rollover.finish(folder)
    rollover.switch(folder, None, 365)
    with pytest.raises(UserError, match="rollover finish"):
        rollover.start(folder, None, 3650)


@pytest.mark.parametrize("writes", range(4))
def test_a_switch_may_be_killed_anywhere(folder, monkeypatch, writes):
    rollover.start(folder, None, 3650)
    both, done = folder.trust.read_bytes(), iter(range(writes))

    def dies(function):
        def call(*arguments):
            if next(done, None) is None:
                raise KeyboardInterrupt
            return function(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(rollover, "write_file", dies(write_file))
        patch.setattr(os, "replace", dies(os.replace))
        patch.setattr(rollover, "renew_server", dies(renew_server))
        with pytest.raises(KeyboardInterrupt):
            rollover.switch(folder, None, 365)
    assert handshake(folder.server, both, "10.0.0.5")
    rollover.switch(folder, None, 365)
    assert handshake(folder.server, both, "10.0.0.5")
    rollover.finish(folder)
    assert warnings(folder) == []
