"""A report as a browser reads it: tables by id, with the full numbers behind their cells."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"meta", "br", "wbr"})


@dataclass
class Cell:
    """A table cell: its first line, the lines in small print, and its attributes."""

    attributes: dict[str, str | None]
    text: str = ""
    small: list[str] = field(default_factory=list)

    @property
    def value(self) -> float | None:
        """The unrounded number, where there is one."""
        return self.number("value")

    def number(self, name: str) -> float | None:
        text = self.attributes.get(f"data-{name}")
        return None if text is None else float(text)


@dataclass
class Line:
    """A row of a table."""

    look: str
    name: Cell | None = None
    cells: list[Cell] = field(default_factory=list)


@dataclass
class Grid:
    """A table: headings without that of the first column, and rows by name."""

    head: list[str]
    rows: dict[str, Line]

    def cell(self, row: str, column: str) -> Cell:
        return self.rows[row].cells[self.head.index(column)]


class Page(HTMLParser):
    """Tables, ids, links, elements and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, Grid] = {}
        self.ids: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[tuple[str, str]] = []
        self._grid: list[Line] = []
        self._key = ""
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    @property
    def text(self) -> str:
        """All text outside the style sheet."""
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if identity := attributes.get("id"):
            self.ids.append(identity)
        if tag not in VOID:
            self._open.append((tag, attributes.get("class") or ""))
        if tag == "table":
            self._key, self._grid = attributes.get("id") or "", []
        elif tag == "tr":
            self._grid.append(Line(attributes.get("class") or ""))
        elif tag == "th" and self._grid[-1].name is None:
            self._grid[-1].name = Cell(attributes)
        elif tag in {"td", "th"}:
            self._grid[-1].cells.append(Cell(attributes))
        elif tag == "small" and self._cell is not None:
            self._cell.small.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, f"<{opened}> closed by </{tag}>"
        if tag == "table":
            head, *rows = self._grid
            self.tables[self._key] = Grid(
                [cell.text for cell in head.cells], {row.name.text: row for row in rows if row.name is not None}
            )
            self._grid = []

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] == "style":
            return
        self.words.append(data)
        cell = self._cell
        if cell is None or ("span", "no") in self._open:
            return
        if any(tag == "small" for tag, _ in self._open):
            cell.small[-1] += data
        else:
            cell.text = f"{cell.text}{data}".strip()

    @property
    def _cell(self) -> Cell | None:
        """The table cell that is open."""
        if not any(tag in {"td", "th"} for tag, _ in self._open):
            return None
        line = self._grid[-1]
        return line.cells[-1] if line.cells else line.name
