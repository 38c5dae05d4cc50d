"""Output of the commands `list` and `check`."""

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime

from remind.errors import UserError
from remind_server.consortium.enrol import Row, listed, strangers
from remind_server.consortium.flower import Node, control
from remind_server.consortium.folder import Folder
from remind_server.consortium.ledger import read_ledger
from remind_server.consortium.run_record import SiteRecord, last_of_sites

_HEAD = ("site", "status", "last seen", "last run", "enrolled", "node", "location", "key")


def sites_text(folder: Folder) -> str:
    """Return a table of the sites, and remarks below it."""
    rows, remarks = _rows(folder)
    last = last_of_sites(folder)
    lines = [_HEAD, *(_cells(row, last.get(row.site.name)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, *(f"note: {remark}" for remark in remarks)])


def sites_json(folder: Folder) -> str:
    """Return the same as JSON; node ids are text, because they exceed JavaScript's exact integers."""
    rows, remarks = _rows(folder)
    last = last_of_sites(folder)
    sites = [
        {
            "site": row.site.name,
            "status": row.status,
            "seen": row.seen and row.seen.isoformat(),
            "enrolled": row.site.enrolled.isoformat(),
            "revoked": row.site.revoked and row.site.revoked.isoformat(),
            "node_id": str(row.site.node_id or ""),
            "location": row.site.location,
            "fingerprint": row.site.fingerprint,
            "last_run": _last_json(last.get(row.site.name)),
        }
        for row in rows
    ]
    return json.dumps({"sites": sites, "notes": remarks}, indent=2)


def served_health(folder: Folder) -> dict[str, str] | None:
    """Return the state of the parts of a running consortium; None if it is not served."""
    url = f"http://127.0.0.1:{folder.settings.local.health}/health"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            parts = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code != 503:
            return None
        parts = json.load(error)
    except (OSError, ValueError):
        return None
    return {str(name): str(state) for name, state in parts.items()}


def _rows(folder: Folder) -> tuple[list[Row], list[str]]:
    ledger = read_ledger(folder.ledger)
    nodes: dict[str, Node] | None = None
    remarks = []
    try:
        with control(folder) as link:
            nodes = link.nodes()
    except UserError as error:
        remarks.append(str(error))
    rows = listed(ledger, nodes)
    for name, (run, did) in sorted(last_of_sites(folder).items()):
        if did.how != "answered" and any(row.site.name == name and not row.site.revoked for row in rows):
            remarks.append(f"{name} was {did.how} when run {run} last asked it: {did.why}")
    if any(row.status in ("missing", "unregistered") for row in rows):
        remarks.append(
            "the SuperLink does not know a site of the ledger; to register missing sites: remind consortium repair"
        )
    remarks += [
        f"node {node.node_id} is registered but not in the ledger: registered on this machine without `enrol`"
        for node in strangers(ledger, nodes or {})
    ]
    return rows, remarks


def _last_json(last: tuple[str, SiteRecord] | None) -> dict[str, object] | None:
    """Return what the site did at the last request of a run."""
    if last is None:
        return None
    run, done = last
    moment = datetime.fromtimestamp(done.at, UTC).isoformat()
    return {"run": run, "round": done.round, "did": done.how, "why": done.why, "at": moment}


def _cells(row: Row, last: tuple[str, SiteRecord] | None) -> tuple[str, ...]:
    site = row.site
    did = "-"
    if last is not None:
        did = f"{last[1].how} {_when(datetime.fromtimestamp(last[1].at, UTC))}"
    node = str(site.node_id) if site.node_id else "unfinished: enrol the same request again"
    return (
        site.name,
        row.status,
        _when(row.seen),
        did,
        _when(site.enrolled),
        node,
        site.location or "-",
        site.fingerprint,
    )


def _when(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "-"
