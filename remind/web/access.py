"""Access control: a sign-in token, a session cookie, or a trusted proxy that has signed the person in."""

import hashlib
import hmac
import ipaddress
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import HTTPConnection

from remind.errors import UserError
from remind.processes.private_files import create_private, private_folder
from remind.web.ended import EndedSessions
from remind.web.guesses import Guesses

SESSION_SECONDS = 12 * 3600
SHORTEST_TOKEN = 20

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Access:
    """Decides who may read this server's pages.

    Attributes
    ----------
    token
        The secret that signs a person in, or that a program sends as ``Authorization: Bearer``.
    cookie
        Name of the session cookie; holds the port, since browsers share cookies between ports of one host.
    header, proxies
        A request from one of these addresses with this header counts as signed in by the proxy.
    ended, guesses
        Sessions that were signed out, and wrong tokens by address.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    cookie: str = "remind_session"
    secure: bool = False
    header: str = ""
    proxies: tuple[Network, ...] = ()
    ended: EndedSessions = field(default_factory=EndedSessions, repr=False)
    guesses: Guesses = field(default_factory=Guesses, repr=False)

    def allows(self, request: HTTPConnection) -> bool:
        """Return whether the request has a valid token or session, or comes through the trusted proxy."""
        if (given := bearer(request)) is not None and self.accepts(given, address_of(request)):
            return True
        return self._is_session(request.cookies.get(self.cookie, "")) or self._through_proxy(request)

    def accepts(self, given: str, address: str) -> bool:
        """Return whether an address has sent the right token; it is not checked while the address has to wait."""
        if self.guesses.wait(address) > 0:
            return False
        if self.is_token(given):
            self.guesses.right(address)
            return True
        self.guesses.wrong(address)
        return False

    def is_token(self, given: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(given.encode(), self.token.encode())

    def new_session(self) -> str:
        """Return the cookie value: its expiry time, a name, and a signature made with the token."""
        session = f"{int(time.time()) + SESSION_SECONDS}.{secrets.token_hex(8)}"
        return f"{session}.{self._signature(session)}"

    def end_session(self, request: HTTPConnection) -> None:
        """End the session of a request, so that its cookie counts no more."""
        if found := self._session(request.cookies.get(self.cookie, "")):
            self.ended.add(found[1], found[0])

    def _is_session(self, value: str) -> bool:
        return self._session(value) is not None

    def _session(self, value: str) -> tuple[int, str] | None:
        """Return when a session ends, and its name; None if it is none, or has ended."""
        session, _, signature = value.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(session).encode()):
            return None
        ends, _, name = session.partition(".")
        return (int(ends), name) if int(ends) > time.time() and name not in self.ended else None

    def _signature(self, ends: str) -> str:
        return hmac.new(self.token.encode(), f"session {ends}".encode(), hashlib.sha256).hexdigest()

    def _through_proxy(self, request: HTTPConnection) -> bool:
        if not (self.header and request.client and request.headers.get(self.header, "").strip()):
            return False
        try:
            address = ipaddress.ip_address(request.client.host)
        except ValueError:
            return False
        return any(address in network for network in self.proxies)


def bearer(request: HTTPConnection) -> str | None:
    """Return the token that a program sends; None if it sends none."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else None


def address_of(request: HTTPConnection) -> str:
    """Return the address that a request comes from: that of the proxy, if there is one."""
    return request.client.host if request.client else ""


def networks(text: str) -> tuple[Network, ...]:
    """Parse comma-separated addresses or networks.

    Raises
    ------
    UserError
        One of them is neither an address nor a network.
    """
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UserError(f"--trusted-proxy: {error}") from None


def token_from(path: Path) -> str:
    """Return the token in a file; make the file with its folder, readable by its owner alone, if it is not there.

    Raises
    ------
    UserError
        The file cannot be read or created, others can read it, or its token is too short.
    """
    token = secrets.token_urlsafe(32)
    try:
        private_folder(path.parent)
        create_private(path, f"{token}\n".encode())
    except FileExistsError:
        return _read_token(path)
    except OSError as error:
        raise UserError(f"--token-file: cannot create {path}: {error.strerror}") from None
    return token


def _read_token(path: Path) -> str:
    try:
        if path.stat().st_mode & 0o077:
            raise UserError(f"--token-file: other users can read {path}; restrict it with: chmod 600 {path}")
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token-file: cannot read {path}: {error}") from None
    if len(token) < SHORTEST_TOKEN:
        raise UserError(
            f"--token-file: the token in {path} has {len(token)} characters; it needs at least {SHORTEST_TOKEN}"
        )
    return token
