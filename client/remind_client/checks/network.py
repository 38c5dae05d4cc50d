"""Checks of the connection to the coordinator: DNS name, port, certificate, clock.

They make one TLS handshake and one HTTP request, and send nothing about the site.
"""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPSConnection

from cryptography import x509

from remind_client.checks.finding import Finding, failed, ok, warning
from remind_client.coordinator import Kit

PATIENCE = 10.0
SOON = timedelta(days=30)
CLOCK_WARNING, CLOCK_LIMIT = timedelta(seconds=30), timedelta(seconds=240)  # Flower refuses from 305 s
RENEW = "ask the coordinator to renew it: remind consortium renew"


def check_trust(kit: Kit, now: datetime) -> Iterator[Finding]:
    """Check the certificates of the kit."""
    try:
        certificates = x509.load_pem_x509_certificates(kit.certificates.read_bytes())
    except (OSError, ValueError):
        yield failed("trust", f"{kit.certificates}: contains no certificates", "ask the coordinator for the kit again")
        return
    latest = max(certificate.not_valid_after_utc for certificate in certificates)
    begins = min(certificate.not_valid_before_utc for certificate in certificates)
    if now < begins:
        yield failed(
            "trust", f"{kit.certificates}: valid from {begins:%Y-%m-%d}, which is in the future", "set the clock"
        )
    elif now > latest:
        yield failed("trust", f"{kit.certificates}: expired on {latest:%Y-%m-%d}", "ask the coordinator for a new kit")
    elif latest - now < SOON:
        yield warning("trust", f"{kit.certificates}: expires on {latest:%Y-%m-%d}", "ask the coordinator for a new kit")
    else:
        yield ok("trust", f"{kit.certificates}: until {latest:%Y-%m-%d}")


def check_coordinator(kit: Kit, now: datetime) -> Iterator[Finding]:
    """Check reachability, then the certificate, then the clock; stop at the first failure."""
    try:
        context = ssl.create_default_context(cafile=str(kit.certificates))
    except (ssl.SSLError, OSError):
        return  # `check_trust` says so
    try:
        with socket.create_connection((kit.host, kit.port), timeout=PATIENCE) as plain:
            yield ok("reachable", f"{kit.address} answers")
            with context.wrap_socket(plain, server_hostname=kit.host) as secured:
                yield _expiry(secured, now)
    except socket.gaierror:
        yield failed(
            "reachable", f"{kit.host}: no such name", "ask your network team, or the coordinator for the right name"
        )
        return
    except ssl.SSLCertVerificationError as error:
        yield failed("certificate", f"{kit.address}: {error.verify_message}", _remedy(error))
        return
    except ssl.SSLError as error:
        yield failed(
            "certificate", f"{kit.address}: no TLS there ({error.reason})", "is this the coordinator's address?"
        )
        return
    except OSError as error:
        words = "no answer" if isinstance(error, TimeoutError) else (error.strerror or str(error))
        yield failed(
            "reachable",
            f"{kit.address}: {words}",
            "allow outgoing connections to that address, or ask the coordinator whether it is up",
        )
        return
    yield _clock(kit, context)


def _expiry(secured: ssl.SSLSocket, now: datetime) -> Finding:
    shown = secured.getpeercert() or {}
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)
    if ends - now < SOON:
        return warning("certificate", f"the coordinator's certificate expires on {ends:%Y-%m-%d}", RENEW)
    return ok("certificate", f"{secured.version()}, trusted, until {ends:%Y-%m-%d}")


def _remedy(error: ssl.SSLCertVerificationError) -> str:
    match error.verify_code:
        case 10:
            return RENEW
        case 9:
            return "set this machine's clock, or ask the coordinator to set theirs"
        case 62 | 64:
            return "the certificate is for other names: check the address in the kit, or ask the coordinator"
    return "this is not the coordinator of the kit, or someone intercepts the connection: stop, and ask the coordinator"


def _clock(kit: Kit, context: ssl.SSLContext) -> Finding:
    """Compare our clock with the coordinator's, because Flower signs the time in every request."""
    connection = HTTPSConnection(kit.host, kit.port, timeout=PATIENCE, context=context)
    try:
        began = datetime.now(UTC)
        connection.request("GET", "/")
        date = connection.getresponse().getheader("Date")
        theirs = parsedate_to_datetime(date) if date else None
    except (OSError, HTTPException, ValueError, TypeError):
        theirs = None
    finally:
        connection.close()
    if theirs is None:
        return warning(
            "clock",
            "the coordinator does not send its time",
            "make sure that this machine's clock is synchronised (NTP)",
        )
    off = began - theirs.replace(tzinfo=theirs.tzinfo or UTC)
    seen = f"{abs(off).total_seconds():.0f} s {'ahead of' if off > timedelta(0) else 'behind'} the coordinator's"
    if abs(off) > CLOCK_LIMIT:
        return failed("clock", seen, "set this machine's clock (NTP); Flower refuses messages that are 305 s off")
    return (
        warning("clock", seen, "synchronise this machine's clock (NTP)")
        if abs(off) > CLOCK_WARNING
        else ok("clock", seen)
    )
