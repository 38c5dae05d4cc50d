"""A request is taken exactly as it was signed, and only from the holder of its key."""

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from remind.consortium.enrolment import LONGEST, fingerprint, make_request, require_fresh, verify_request
from remind.errors import UserError

KEY = ec.generate_private_key(ec.SECP384R1())
FIELDS: dict[str, Any] = {"consortium": "heart", "site": "bern", "location": "46.5,6.6"}
REQUEST = json.loads(make_request(KEY, **FIELDS))
OTHER = json.loads(make_request(ec.generate_private_key(ec.SECP384R1()), **FIELDS))


@given(location=st.text(max_size=200).filter(str.isprintable))
def test_what_was_signed_is_what_is_read(location):
    request = verify_request(make_request(KEY, **FIELDS | {"location": location}))
    assert (request.consortium, request.site, request.location) == ("heart", "bern", location)


def test_spaces_and_order_do_not_matter():
    assert verify_request(json.dumps(dict(reversed(REQUEST.items())), indent=7)) == verify_request(json.dumps(REQUEST))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("consortium", "lung"),
        ("site", "basel"),
        ("location", ""),
        ("public_key", OTHER["public_key"]),
        ("created", "2020-01-01T00:00:00+00:00"),
        ("nonce", "0" * 32),
        ("signature", OTHER["signature"]),
        ("signature", "AAAA"),
        ("signature", "?"),
    ],
)
def test_a_changed_field_breaks_the_signature(field, value):
    with pytest.raises(UserError, match="signature: it is not that of the key"):
        verify_request(json.dumps(REQUEST | {field: value}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "version"),
        ({"site": "../etc"}, "site"),
        ({"site": ""}, "site"),
        ({"location": "a\u202eb"}, "location"),
        ({"location": "a\nb"}, "location"),
        ({"created": "2026-01-01T00:00:00"}, "created"),
        ({"nonce": "0"}, "nonce"),
        ({"surprise": 1}, "surprise"),
        ({"public_key": "ssh-rsa AAAA"}, "public_key"),
        ({"public_key": REQUEST["public_key"] + " root@bern"}, "comment"),
    ],
)
def test_fields_that_are_not_valid_are_named(change, said):
    with pytest.raises(UserError, match=said):
        verify_request(json.dumps(REQUEST | change))


@pytest.mark.parametrize("field", REQUEST)
def test_every_field_is_needed(field):
    with pytest.raises(UserError, match=field):
        verify_request(json.dumps({name: value for name, value in REQUEST.items() if name != field}))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 10_000, "x" * (LONGEST + 1)])
def test_other_texts_are_no_request(text):
    with pytest.raises(UserError, match="this is not an enrolment request"):
        verify_request(text)


@given(st.binary(max_size=300))
def test_no_bytes_are_a_traceback(content):
    with pytest.raises(UserError):
        verify_request(content.decode("latin-1"))


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()])
def test_only_p384(key):
    text = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    with pytest.raises(UserError, match="public_key"):
        verify_request(json.dumps(REQUEST | {"public_key": text}))


def test_a_request_cannot_be_made_with_another_curve():
    with pytest.raises(UserError, match="P-384"):
        make_request(ec.generate_private_key(ec.SECP256R1()), **FIELDS)


def test_a_request_cannot_be_made_with_a_bad_name():
    with pytest.raises(UserError, match="site"):
        make_request(KEY, **FIELDS | {"site": "St. Anna's"})


def test_two_requests_of_one_key_differ():
    assert REQUEST["nonce"] != json.loads(make_request(KEY, **FIELDS))["nonce"]


def test_age():
    now = datetime(2026, 5, 15, tzinfo=UTC)

    def fresh(created):
        require_fresh(verify_request(make_request(KEY, **FIELDS, created=created)), now, timedelta(days=14))

    fresh(now)
    fresh(now - timedelta(days=14))
    fresh(now + timedelta(minutes=9))
    with pytest.raises(UserError, match="14 day"):
        fresh(now - timedelta(days=14, seconds=1))
    with pytest.raises(UserError, match="clocks"):
        fresh(now + timedelta(minutes=11))


def test_the_fingerprint_is_that_of_ssh_keygen(tmp_path):
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen (Debian: openssh-client)")
    (tmp_path / "key.pub").write_text(REQUEST["public_key"])
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", tmp_path / "key.pub"], capture_output=True, text=True, check=True
    ).stdout
    assert fingerprint(REQUEST["public_key"]) in shown.split()
