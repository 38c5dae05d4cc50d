"""Whether the chain is whole."""

from dataclasses import dataclass
from pathlib import Path

from remind_client.audit.chain import Head, head_of, parse, problems
from remind_client.audit.log import segments

CUT = (
    "the chain alone cannot show entries cut off its end: compare with a head noted elsewhere "
    "(remind-site audit verify --head)"
)


@dataclass(frozen=True)
class Verdict:
    """What `verify` found.

    Attributes
    ----------
    problems
        The problem; empty if the chain is valid.
    notes
        Remarks that are not errors.
    head
        The last entry; None if there is no complete one.
    entries
        Number of lines read.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    head: Head | None
    entries: int

    @property
    def ok(self) -> bool:
        """Whether the chain is whole."""
        return not self.problems


def verify(folder: Path, noted: Head | None = None) -> Verdict:
    """Read the whole log and check every link.

    Parameters
    ----------
    noted
        A head stored elsewhere: it must be in the chain.
    """
    files = segments(folder)
    if not files:
        return Verdict(("there is no log",), (), None, 0)
    found, notes, entries, seen = [], [CUT], 0, noted is None
    head: Head | None = None
    for path in files:
        *lines, rest = path.read_bytes().split(b"\n")
        entries += len(lines)
        if path == files[0]:
            first, _ = problems(lines[:1], Head())
            if first and not problems(lines[:1], None)[0]:
                notes.append(f"{path.name} is not the beginning of the log: earlier files were taken away")
                head = None
            else:
                head = Head()
        wrong, head = problems(lines, head)
        found += [f"{path.name} {problem}" for problem in wrong]
        if rest:
            found.append(
                f"{path.name}: the last line is unfinished ({len(rest)} bytes): a crash while writing leaves this, a "
                "truncation does too; the next entry will record this"
            )
        seen = seen or any((entry := parse(line)) is not None and head_of(entry) == noted for line in lines)
    if noted is not None and not seen:
        found.append(f"the stored head {noted} is not in the log: entries were removed or rewritten")
    return Verdict(tuple(found), tuple(notes), head, entries)
