"""Setup of secure aggregation: two small exchanges after enrolment, and what the coordinator keeps of them.

The coordinator keeps public keys and boxes that only hospitals can open; nothing in the file is secret.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from flwr.serverapp import Grid
from pydantic import BaseModel, ConfigDict, ValidationError

from remind.config import Config
from remind.errors import UserError, several
from remind.federation.bounds import NO_TENSORS
from remind.federation.flower import read_as, to_record
from remind.federation.message_types import Message
from remind.federation.secure_messages import Deal, Dealt, Keys, Prepare
from remind.processes.private_files import private_folder, write_private
from remind.quoting import reason
from remind.secagg.book import Book
from remind.secagg.coordinator import deal_problem
from remind.secagg.keys import SignedKeys
from remind.secagg.limits import FEWEST, RefusedError
from remind_server.rounds.member import Member
from remind_server.rounds.parties import Parties
from remind_server.rounds.waiting import wait_until_connected

log = logging.getLogger("flwr")
FILE = "secure-aggregation.json"
SPARE = 8  # slots beyond two a round: examinations, and rounds that were begun again
NO_KEYS = "it published no keys when the run began, and secure aggregation cannot take it in later"
Wanted = TypeVar("Wanted", bound=Message)


class Dealing(BaseModel):
    """What was dealt, and which slots are used up.

    Attributes
    ----------
    next
        The first slot that was never used.
    round, slot
        The round under way and its slot.
    opened
        Whether sites were asked to open their shares in that slot: it is then used up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    book: Book
    deals: dict[str, dict[str, str]]
    next: int = 0
    round: int = -1
    slot: int = 0
    opened: bool = False


def slots_of(config: Config) -> int:
    """Return how many aggregations a run has keys for."""
    return 2 * config.train.rounds + SPARE


def kept(folder: Path | None) -> Dealing | None:
    """Read what a resumed run had dealt; None: nothing was stored.

    Raises
    ------
    UserError
        The file is damaged.
    """
    if folder is None or not (folder / FILE).is_file():
        return None
    try:
        return Dealing.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        raise UserError(f"{folder / FILE}: damaged: no sum of this run can be read; start it again") from None


def keep(folder: Path | None, dealing: Dealing) -> None:
    """Write it; it is on the disk when this returns."""
    if folder is not None:
        write_private(private_folder(folder) / FILE, dealing.model_dump_json().encode())


def set_up(grid: Grid, parties: Parties) -> Dealing:
    """Collect the keys of all members, hand them round, collect the shares.

    Who does not answer takes no part in the run.

    Raises
    ------
    UserError
        Too few hospitals are left.
    """
    slots = slots_of(parties.config)
    members = sorted(parties.roster.members.values(), key=lambda m: m.name)
    keys: dict[str, SignedKeys] = {}
    for member, answer in _ask(grid, parties, members, Prepare(slots=slots), Keys):
        if problem := _keys_problem(answer.keys, member, slots):
            parties.roster.exclude(member, problem)
        else:
            keys[member.name] = answer.keys
    _require(parties, len(keys), {})
    book = Book(sites=tuple(keys[name] for name in sorted(keys)))
    deals: dict[str, dict[str, str]] = {}
    takers = [m for m in members if m.name in keys]
    for member, dealt in _ask(grid, parties, takers, Deal(book=book), Dealt):
        if problem := deal_problem(book, dealt.boxes):
            parties.roster.exclude(member, problem)
        else:
            deals[member.name] = dict(dealt.boxes)
    _require(parties, len(deals), {name: "no shares" for name in keys if name not in deals}, book.threshold)
    return Dealing(book=book, deals=deals)


def _ask(
    grid: Grid, parties: Parties, members: Iterable[Member], request: Message, kind: type[Wanted]
) -> Iterable[tuple[Member, Wanted]]:
    """Yield the answers; ask again those who did not answer and are connected again, as nobody is taken in later.

    The same request gets the same keys and boxes, also from a hospital that was killed in between.
    """
    waiting, retries = list(members), parties.config.federation.retries
    for left in range(retries, -1, -1):
        records, silent = ((member, to_record(request)) for member in waiting), dict[str, str]()
        for member, answer in parties.ask(grid, records, "query", 0, NO_TENSORS):
            if answer.record is None and left:
                silent[member.name] = answer.error
                continue
            try:
                if answer.record is None:
                    raise ValueError(answer.error)
                found, _ = read_as(answer.record, kind, NO_TENSORS)
            except ValueError as error:
                parties.roster.exclude(member, reason(error))
                continue
            yield member, found
        if not silent:
            return
        log.warning("%s did not answer while keys are dealt; asked again once connected", ", ".join(sorted(silent)))
        wait_until_connected(grid, parties.roster, silent, parties.config.federation.deadline)
        lost = [member for member in waiting if member.name in silent]
        here = {member.name for member in parties.roster.online(grid)}
        waiting = [member for member in lost if member.name in here]
        for member in lost:
            if member.name not in here:
                parties.roster.exclude(member, reason(silent[member.name]))


def _keys_problem(keys: SignedKeys, member: Member, slots: int) -> str:
    if keys.site != member.name or keys.slots != slots:
        return f"its keys are of {keys.site!r} for {keys.slots} slots, not of {member.name!r} for {slots}"
    try:
        keys.require_signed()
    except RefusedError as error:
        return str(error)
    return ""


def _require(parties: Parties, number: int, said: Mapping[str, str], least: int = FEWEST) -> None:
    if number < max(least, FEWEST):
        problems = [f"{name}: {why}" for name, why in sorted({**parties.roster.refused, **said}.items())]
        raise several(
            f"federation.secure-aggregation: {number} site(s) dealt keys, at least {max(least, FEWEST)} must", problems
        )
