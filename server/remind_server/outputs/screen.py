"""Fits tables to what shows them: a terminal of some size, or a log.

On a terminal tables fit its width and height, and `rich` draws them. In a pipe or a log they are plain text, with the
same limit on rows: a round never prints more than one screen, however many groups there are.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

LINES = 24  # rows of a log's screen, and of a terminal of unknown size
BESIDE = 12  # lines of a round beside its groups: what it is, who is missing, a table's head and foot
FEWEST = 4  # rows on the smallest terminal
MOST_MISSING = 4  # sites named one by one
GAP, INDENT = 2, 2  # spaces between columns, and before the first


@dataclass(frozen=True)
class Table:
    """A table to show.

    Attributes
    ----------
    columns, rows
        Heads and cells; the first column is text, the others are numbers.
    fixed
        Columns from the left that are always shown.
    order
        Positions of the other columns, the most important first; the last ones are left out if there is no room.
    strong
        Rows to emphasise.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    fixed: int
    order: Sequence[int] = ()
    strong: frozenset[int] = field(default_factory=frozenset)

    def fitting(self, width: int | None) -> "tuple[Table, list[str]]":
        """Return the table without the columns that a line of `width` has no room for, and their heads."""
        if width is None:
            return self, []
        widths = self.widths()
        kept = set(range(self.fixed))
        room = width - INDENT + GAP - sum(widths[i] + GAP for i in kept)
        for i in self.order:
            if widths[i] + GAP <= room:
                kept.add(i)
                room -= widths[i] + GAP
        places = sorted(kept)
        gone = [self.columns[i] for i in range(len(self.columns)) if i not in kept]
        rows = [[row[i] for i in places] for row in self.rows]
        return Table([self.columns[i] for i in places], rows, self.fixed, (), self.strong), gone

    def widths(self) -> list[int]:
        """Return the width of each column in letters."""
        return [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]

    def plain(self) -> str:
        """Return the table as text; the first column is aligned left, the others right."""
        lines, widths = [], self.widths()
        for row in [self.columns, *self.rows]:
            first, *rest = (
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            lines.append(" " * INDENT + (" " * GAP).join([first, *rest]))
        return "\n".join(lines)


@dataclass(frozen=True)
class Screen:
    """The room for text.

    Attributes
    ----------
    width
        Letters of a line; None: any number, as in a log.
    lines
        Lines of a screen.
    console
        The terminal, a ``rich.console.Console``; None: plain text.
    verbose
        Show every row and column, whatever the size.
    """

    width: int | None = None
    lines: int = LINES
    console: Any = None
    verbose: bool = False

    @classmethod
    def of_output(cls, verbose: bool = False) -> "Screen":
        """Return the screen of this process's output; ``COLUMNS`` and ``LINES`` overrule the terminal's size."""
        found = shutil.get_terminal_size((0, 0))
        console = None
        if sys.stdout.isatty():
            from rich.console import Console

            console = Console(highlight=False)
        return cls(found.columns or None, found.lines or LINES, console, verbose)

    @property
    def most_rows(self) -> int | None:
        """Return how many rows of a table fit on the screen; None: any number."""
        return None if self.verbose else max(FEWEST, self.lines - BESIDE)

    @property
    def most_missing(self) -> int | None:
        """Return how many sites are named one by one; None: any number."""
        return None if self.verbose else MOST_MISSING

    def fitted(self, table: Table) -> tuple[Table, list[str]]:
        """Return the table with the columns that fit, and the heads of those left out."""
        return table.fitting(None if self.verbose else self.width)

    def draw(self, table: Table) -> None:
        """Print a table on the terminal."""
        from rich.table import Table as Drawn

        drawn = Drawn(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold underline")
        for i, column in enumerate(table.columns):
            drawn.add_column(column, justify="right" if i else "left", no_wrap=True, overflow="ignore")
        for i, row in enumerate(table.rows):
            drawn.add_row(*map(_text, row), style="bold" if i in table.strong else None)
        self.console.print(drawn)


def _text(cell: str) -> Any:
    """Return a cell as text without markup, because names are data."""
    from rich.text import Text

    return Text(cell, style="dim" if cell in ("–", "withheld") else "")
