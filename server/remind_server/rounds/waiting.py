"""Wait for sites to connect."""

from collections.abc import Collection

from flwr.serverapp import Grid

from remind.errors import UserError, several
from remind_server.rounds.clock import clock_of
from remind_server.rounds.exchange import patiently
from remind_server.rounds.group_quorum import ROUNDING, group_shares
from remind_server.rounds.roster import Roster

SETTLE = 0.25  # seconds between two polls of the list of nodes, until it no longer grows


def wait_for_members(grid: Grid, roster: Roster, deadline: float) -> None:
    """Wait until enough sites are connected, and their number no longer grows.

    Raises
    ------
    UserError
        Too few are connected within the deadline; the error names the enrolled hospitals that are missing.
    """
    try:
        wait_for_nodes(grid, roster.needed, deadline)
    except UserError as error:
        here = {getattr(node, "name", "") for node in patiently("listing nodes", lambda: list(grid.get_nodes()))}
        gone = [f"{name}: not connected" for name in roster.expected if name not in here]
        raise (several(str(error), gone) if gone else error) from None


def wait_for_groups(grid: Grid, roster: Roster, least: float, deadline: float) -> None:
    """Wait until this share of each group's patients is at connected members, or for `deadline` seconds."""
    clock = clock_of(grid)
    closes = clock.now() + deadline
    while least and clock.now() < closes:
        shares = group_shares(roster, {member.name for member in roster.training(grid)})
        if all(share >= least - ROUNDING for share in shares.values()):
            return
        clock.sleep(SETTLE)


def wait_until_connected(grid: Grid, roster: Roster, names: Collection[str], deadline: float) -> None:
    """Wait until these members are connected, or for `deadline` seconds."""
    clock = clock_of(grid)
    closes = clock.now() + deadline
    while clock.now() < closes and not {member.name for member in roster.online(grid)}.issuperset(names):
        clock.sleep(SETTLE)


def wait_for_nodes(grid: Grid, at_least: int, deadline: float) -> None:
    """Wait until nodes are connected and their number no longer grows; in a simulation this takes about a second.

    Raises
    ------
    UserError
        Too few nodes are connected within `deadline` seconds.
    """
    clock, before = clock_of(grid), -1
    closes = clock.now() + deadline
    while clock.now() < closes:
        now = len(patiently("listing nodes", lambda: list(grid.get_node_ids())))
        if now >= max(at_least, 1) and now == before:
            return
        before = now
        clock.sleep(SETTLE)
    raise UserError(f"{max(before, 0)} site(s) connected within {deadline:g} s; {max(at_least, 1)} needed")
