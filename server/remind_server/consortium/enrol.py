"""Rules for enrolling and revoking hospitals, applied to a ledger and a SuperLink."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from remind.consortium.enrolment import Request, require_fresh, verify_request
from remind.errors import UserError
from remind_server.consortium.flower import KEY_IN_USE, Node, RefusalError
from remind_server.consortium.folder import Folder
from remind_server.consortium.ledger import Ledger, Site, read_ledger, write_ledger

BUSY = "another `remind consortium` command is changing the ledger; try again"
NEW_REQUEST = "ask the hospital for a new request"
NEW_KEY = "the hospital makes a new key and a new request"


class Registry(Protocol):
    """The part of `flower.Control` that enrolment uses."""

    def register(self, public_key: str, name: str, location: str) -> int:
        """Register a key."""

    def unregister(self, node_id: int) -> None:
        """Unregister a node."""

    def nodes(self) -> dict[str, Node]:
        """Return all nodes by public key."""


def enrol(
    folder: Folder,
    registry: Registry,
    text: str,
    confirm: Callable[[Request], None],
    now: datetime | None = None,
) -> Site:
    """Enrol the hospital of a request.

    Parameters
    ----------
    confirm
        Called after all other checks: is this the hospital's fingerprint? Raises a UserError if not.

    Raises
    ------
    UserError
        Gives the reason and the remedy; nothing has changed.
    """
    now = now or datetime.now(UTC)
    request = verify_request(text)
    settings = folder.settings
    if request.consortium != settings.name:
        raise UserError(
            f"consortium: the request is for {request.consortium!r}, this is {settings.name!r}; {NEW_REQUEST}, made "
            f"with the kit of {settings.name!r}"
        )
    with folder.locked("ledger", BUSY):
        ledger = read_ledger(folder.ledger)
        begun = _begun(ledger, request)
        if begun is None:
            require_fresh(request, now, timedelta(days=settings.enrolment.max_age_days))
            _require_new(ledger, request)
            confirm(request)
            begun = Site(
                name=request.site,
                location=request.location,
                public_key=request.public_key,
                fingerprint=request.fingerprint,
                nonce=request.nonce,
                requested=request.created,
                enrolled=now,
            )
            registry.nodes()  # fails while the SuperLink is down, before anything is written
            ledger = ledger.with_site(begun)
            write_ledger(folder.ledger, ledger)  # the ledger records nonce and key before the key is registered
        site = begun.model_copy(update={"node_id": _register(registry, begun)})
        write_ledger(folder.ledger, ledger.with_site(site))
    return site


def revoke(folder: Folder, registry: Registry, name: str, now: datetime | None = None) -> Site:
    """Revoke a site; its node ends within seconds, and its key cannot be enrolled again. Others are not affected.

    Raises
    ------
    UserError
        The site does not exist, or the SuperLink cannot be reached; the site then stays enrolled.
    """
    with folder.locked("ledger", BUSY):
        ledger = read_ledger(folder.ledger)
        site = ledger.named(name)
        node = registry.nodes().get(site.public_key)
        if node is not None and node.status != "unregistered":
            registry.unregister(node.node_id)
        site = site.model_copy(update={"revoked": now or datetime.now(UTC)})
        write_ledger(folder.ledger, ledger.with_site(site))
    return site


@dataclass(frozen=True)
class Row:
    """One line of the list of sites; `seen` and `status` come from the SuperLink."""

    site: Site
    status: str
    seen: datetime | None


def listed(ledger: Ledger, nodes: dict[str, Node] | None) -> list[Row]:
    """Return every enrolment with its state at the SuperLink; `nodes` is None if the SuperLink cannot be reached."""
    rows = []
    for site in ledger.sites:
        node = (nodes or {}).get(site.public_key)
        status = "unknown" if nodes is None else "missing" if node is None else node.status
        if site.revoked:
            status = "revoked"
        elif status == "registered":
            status = "never seen"
        rows.append(Row(site, status, node.seen if node else None))
    return rows


def strangers(ledger: Ledger, nodes: dict[str, Node]) -> list[Node]:
    """Return nodes that the SuperLink admits although they are not in the ledger."""
    known = {site.public_key for site in ledger.active()}
    return [node for key, node in nodes.items() if key not in known and node.status != "unregistered"]


def _begun(ledger: Ledger, request: Request) -> Site | None:
    """Return the site of this same request, if a crash interrupted its enrolment before its key was registered."""
    for site in ledger.active():
        if site.node_id is None and (site.nonce, site.public_key) == (request.nonce, request.public_key):
            return site
    return None


def _require_new(ledger: Ledger, request: Request) -> None:
    for site in ledger.sites:
        if site.nonce == request.nonce:
            raise UserError(
                f"nonce: this request was used already, for site {site.name!r} on {site.enrolled:%Y-%m-%d %H:%M %Z}; a "
                f"request works once: {NEW_REQUEST}"
            )
        if site.public_key == request.public_key and site.revoked:
            raise UserError(
                f"public_key: this key was revoked on {site.revoked:%Y-%m-%d}, as site {site.name!r}, and cannot come "
                f"back; {NEW_KEY}"
            )
        if site.public_key == request.public_key:
            raise UserError(
                f"public_key: this key is in use by site {site.name!r}; {NEW_KEY}, or revoke that site first"
            )
    for site in ledger.active():
        if site.name.lower() == request.site.lower():
            raise UserError(
                f"site: a site {site.name!r} with another key exists already; revoke it first if the hospital has "
                f"changed its key (remind consortium revoke), or {NEW_REQUEST} with another name"
            )


def _register(registry: Registry, site: Site) -> int:
    try:
        return registry.register(site.public_key, site.name, site.location)
    except RefusalError as error:
        if error.code != KEY_IN_USE:
            raise
        node = registry.nodes().get(site.public_key)
        if node is None or node.status == "unregistered":
            raise UserError(f"public_key: the SuperLink has revoked this key permanently; {NEW_KEY}") from None
        return node.node_id


def repair(folder: Folder, registry: Registry) -> list[Site]:
    """Register sites of the ledger that the SuperLink does not know, e.g. after a lost database; return them."""
    with folder.locked("ledger", BUSY):
        ledger = read_ledger(folder.ledger)
        nodes = registry.nodes()
        again = []
        for site in ledger.active():
            if site.public_key not in nodes:
                found = site.model_copy(update={"node_id": _register(registry, site)})
                ledger = ledger.with_site(found)
                write_ledger(folder.ledger, ledger)
                again.append(found)
    return again
