"""Formats parts of a report as text: tables that fit a terminal, runs of numbers."""

from collections.abc import Sequence

WIDTH = 120  # characters of a line, where a table can be divided into several


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align rows as text columns: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


def wrapped(rows: Sequence[Sequence[str]], width: int = WIDTH) -> list[str]:
    """Align as `aligned` does. Columns beyond `width` go into further tables below, each with the first column."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    blocks: list[list[int]] = []
    used = width + 1
    for i in range(1, len(columns)):
        used += 2 + widths[i]
        if used > width:
            blocks.append([])
            used = widths[0] + 2 + widths[i]
        blocks[-1].append(i)
    lines: list[str] = []
    for block in blocks:
        lines += ["", *aligned([[row[0], *(row[i] for i in block)] for row in rows])]
    return lines[1:]


def ranges(numbers: Sequence[int]) -> list[str]:
    """Return ``["2", "5–7"]`` for 2, 5, 6, 7; the numbers ascend."""
    runs: list[list[int]] = []
    for number in numbers:
        if not runs or number != runs[-1][-1] + 1:
            runs.append([])
        runs[-1].append(number)
    return [f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
