"""`remind-site check` finds every possible mistake and names its remedy."""

import os
import ssl
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from remind.data.synthetic.write import write_cohort
from remind_client.checks import local, network
from remind_client.checks.every import run_checks
from remind_client.checks.finding import Finding, all_in_order, to_json, to_text
from remind_client.coordinator import Kit
from remind_client.identity import new_private_key
from remind_client.launcher.install import OTHERS
from remind_client.vault.key import new_key_file
from remind_client.vault.vault import PlainVault
from tests.builders import cohorts
from tests.builders.site_files import write_site
from tests.e2e.loopback import certificates
from tests.machine import free_port


def levels(findings) -> dict[str, str]:
    return {finding.check: finding.level for finding in findings}


def with_remedies(findings) -> bool:
    return all(finding.remedy or finding.level == "ok" or "; " in finding.seen for finding in findings)


@pytest.fixture
def site(tmp_path):
    site = write_site(tmp_path / "site", "[policy]\nminimum_patients = 10")
    write_cohort(cohorts.cohort([1] * 30 + [3] * 25 + [5] * 4), site.path(site.cohort))
    new_private_key(site.key_path)
    return site


def test_a_site_in_order(site):
    checks = (
        local.check_key,
        local.check_state,
        local.check_launcher,
        local.check_policy,
        local.check_audit,
        local.check_device,
    )
    for check in checks:
        assert set(levels(check(site)).values()) == {"ok"}, check
    assert levels(local.check_cohort_of(site)) == {"cohort": "ok", "suppression": "warning"}
    assert levels(local.check_vault(site)) == {"vault": "warning"}


def test_nothing_found_stops_the_rest(tmp_path):
    """A site with nothing right: everything is named in one go, and every failure says what to do."""
    site = write_site(tmp_path / "site")
    findings = run_checks(site)
    found = levels(findings)
    assert {name for name, level in found.items() if level == "failed"} == {"key", "cohort", "kit"}
    assert with_remedies(findings)
    assert not all_in_order(findings)
    assert all(finding.seen.splitlines()[0] in to_text(findings) for finding in findings)
    assert '"ok": false' in to_json(findings)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read(site, mode):
    site.key_path.chmod(mode)
    [finding] = local.check_key(site)
    assert finding.level == "failed"
    assert "chmod 600" in finding.remedy


def test_a_cohort_whose_groups_are_all_small(site, tmp_path):
    strict = site.model_copy(update={"policy": site.policy.model_copy(update={"minimum_patients": 1000})})
    assert levels(local.check_cohort_of(strict))["suppression"] == "failed"


@pytest.mark.parametrize(
    ("change", "level"),
    [
        ({"runs": ()}, "failed"),
        ({"tensors": ("group:*",)}, "failed"),
        ({"minimum_patients": 1}, "warning"),
        ({"code_bundles": ("a" * 64,)}, "warning"),
        ({"tensors": ("*",)}, "warning"),
    ],
)
def test_policies_that_nobody_wants(site, change, level):
    findings = list(local.check_policy(site.model_copy(update={"policy": site.policy.model_copy(update=change)})))
    assert level in {finding.level for finding in findings}
    assert with_remedies(findings)


@pytest.mark.parametrize(
    ("require", "delta", "level"), [("joint", 0.01, "warning"), ("joint", 1e-3, None), ("", 0.01, None)]
)
def test_a_delta_that_is_large_for_so_many_patients(site, require, delta, level):
    """59 patients: at most 1/590."""
    privacy = site.policy.privacy.model_copy(update={"delta": delta, "require": (require,) if require else ()})
    here = site.model_copy(update={"policy": site.policy.model_copy(update={"privacy": privacy})})
    findings = list(local.check_cohort_of(here))
    assert levels(findings).get("delta") == level
    if level:
        [finding] = [finding for finding in findings if finding.check == "delta"]
        assert finding.seen.startswith("policy.privacy.delta = 0.01 is more than a tenth of 1/n for n = 59 patients")
        assert finding.remedy == "Set it to 0.001 or less"


def test_a_vault_that_does_not_fit(site, tmp_path):
    new_key_file(tmp_path / "key")
    vault = site.vault.model_copy(update={"key_file": str(tmp_path / "key")})
    sealed = site.model_copy(update={"vault": vault})
    assert levels(local.check_vault(sealed)) == {"vault": "ok"}
    site.runs_folder.mkdir(parents=True)
    PlainVault().write(site.runs_folder / "state.pt", lambda out: out.write(b"x"))
    [finding] = local.check_vault(sealed)
    assert finding.level == "failed"
    assert "not encrypted" in finding.seen
    os.remove(tmp_path / "key")
    assert levels(local.check_vault(sealed)) == {"vault": "failed"}


def test_a_launcher_that_is_not_ours(site):
    assert levels(local.check_launcher(site)) == {"launcher": "ok"}
    (site.state_folder / "launchers" / OTHERS[0]).write_text("#!/bin/sh\nexit 0\n")
    assert levels(local.check_launcher(site)) == {"launcher": "failed"}


# the network


class Clock(BaseHTTPRequestHandler):
    """Answers 403 to everything, as the coordinator's proxy does, at its own time."""

    off = timedelta(0)

    def do_GET(self):
        self.send_response_only(403)
        self.send_header("Date", format_datetime(datetime.now(UTC) + self.off, usegmt=True))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Quiet(HTTPServer):
    def handle_error(self, request, client_address):
        """A client that does not trust us hangs up."""


@pytest.fixture
def coordinator(tmp_path):
    """Start a TLS server; its kit."""
    servers = []

    def start(ends=timedelta(days=365), off=timedelta(0), trust=None, host="127.0.0.1") -> Kit:
        ca, certificate, key = certificates(tmp_path / f"tls{len(servers)}", ends)
        server = Quiet((host, 0), type("Now", (Clock,), {"off": off}))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        return Kit("test", host, server.server_port, trust or ca)

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join(60)
        server.server_close()


def at(kit: Kit) -> dict[str, Finding]:
    findings = list(network.check_coordinator(kit, datetime.now(UTC)))
    assert with_remedies(findings)
    return {finding.check: finding for finding in findings}


def test_a_coordinator_in_order(coordinator):
    found = at(coordinator())
    assert {name: f.level for name, f in found.items()} == {"reachable": "ok", "certificate": "ok", "clock": "ok"}


def test_a_certificate_that_has_expired_or_soon_will(coordinator):
    found = at(coordinator(ends=timedelta(days=-1)))
    assert found["certificate"].level == "failed"
    assert "expired" in found["certificate"].seen
    assert "renew" in found["certificate"].remedy
    assert at(coordinator(ends=timedelta(days=5)))["certificate"].level == "warning"


def test_a_coordinator_that_is_another(coordinator, tmp_path):
    stranger, _, _ = certificates(tmp_path / "stranger")
    found = at(coordinator(trust=stranger))
    assert found["certificate"].level == "failed"
    assert "stop, and ask" in found["certificate"].remedy


def test_a_certificate_for_another_name(coordinator):
    kit = coordinator(host="127.0.0.2")
    found = at(kit)
    assert found["certificate"].level == "failed"
    assert "names" in found["certificate"].remedy


@pytest.mark.parametrize(
    ("seconds", "level"), [(0, "ok"), (-100, "warning"), (100, "warning"), (290, "failed"), (-3600, "failed")]
)
def test_clocks(coordinator, seconds, level):
    found = at(coordinator(off=timedelta(seconds=seconds)))
    assert found["clock"].level == level
    assert seconds == 0 or ("behind" if seconds > 0 else "ahead of") in found["clock"].seen


def test_nobody_there(tmp_path):
    ca, _, _ = certificates(tmp_path)
    assert at(Kit("test", "127.0.0.1", free_port(), ca))["reachable"].level == "failed"
    assert "no such name" in at(Kit("test", "nowhere.invalid", 443, ca))["reachable"].seen


def test_no_tls_there(tmp_path):
    ca, _, _ = certificates(tmp_path)
    server = Quiet(("127.0.0.1", 0), Clock)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found = at(Kit("test", "127.0.0.1", server.server_port, ca))
    server.shutdown()
    thread.join(60)
    server.server_close()
    assert found["certificate"].level == "failed"


def test_the_kits_own_certificates(tmp_path):
    ca, _, _ = certificates(tmp_path)
    kit, now = Kit("test", "x", 1, ca), datetime.now(UTC)

    def found(file: Path, moment: datetime) -> str:
        [finding] = network.check_trust(Kit("test", "x", 1, file), moment)
        return finding.level

    assert found(ca, now) == "ok"
    assert found(ca, now + timedelta(days=340)) == "warning"
    assert found(ca, now + timedelta(days=400)) == "failed"
    assert found(ca, now - timedelta(days=60)) == "failed"
    (tmp_path / "none").write_text("certificate")
    assert found(tmp_path / "none", now) == "failed"
    assert kit.address == "x:1"
    assert Kit("test", "::1", 443, ca).address == "[::1]:443"
