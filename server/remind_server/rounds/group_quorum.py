"""The quorum of groups: the share of each group's patients that must be at sites whose replies count."""

from collections.abc import Collection, Mapping

from remind import groups
from remind.errors import several
from remind_server.rounds.collect import GONE, LATE, TooFewError
from remind_server.rounds.parties import Parties
from remind_server.rounds.roster import Roster

ROUNDING = 1e-9


def group_shares(roster: Roster, names: Collection[str]) -> dict[int, float]:
    """Return the share of each group's training patients that is at these members, groups ascending."""
    there = [member.counts for member in roster.members.values() if member.name in names]
    return {k: sum(own.get(k, 0) for own in there) / n for k, n in roster.counts().items()}


def require_groups(
    parties: Parties, answered: Collection[str], absent: Mapping[str, str], how: Mapping[str, str]
) -> None:
    """Fail if a group's share is below ``federation.min-group-share``.

    Raises
    ------
    TooFewError
        It would suffice if those who are late or gone come back.
    UserError
        It would not. Either error names each such group, its share, and who is missing.
    """
    least = parties.config.federation.min_group_share - ROUNDING
    shares = group_shares(parties.roster, answered)
    lacking = {k: share for k, share in shares.items() if share < least}
    if not lacking:
        return
    back = {name for name, kind in how.items() if kind in (LATE, GONE)}
    possible = group_shares(parties.roster, {*answered, *back})
    heading = f"federation.min-group-share asks for {least + ROUNDING:.0%} of each group's patients"
    found = [f"{groups.name(k, parties.schema.names)}: {share:.0%} answered" for k, share in lacking.items()]
    error = several(heading, found + [f"{name}: {why}" for name, why in sorted(absent.items())])
    raise TooFewError(str(error)) if all(possible[k] >= least for k in lacking) else error
