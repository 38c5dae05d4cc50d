"""The common style of all plots of a report: sizes, colours, markers, and conversion to inline SVG.

Colours are those of Okabe and Ito, in an order whose neighbours differ in brightness too; every method has a marker of
its own as well, so that neither grey print nor colour blindness makes two of them one. Text stays text: it can be
searched, and the reader's browser knows more alphabets than a font of ours.
"""

import math
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, ParamSpec
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

LINKING = frozenset({"href", "clip-path"})  # attributes that name another element of the picture
LINK = re.compile(r"#([\w-]+)")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # characters that XML forbids; a name may hold them
LETTER = 0.075  # inches of a letter, on average
LEGEND_LETTERS = 46
TEXT_LINE = 0.15  # inches of a line of text
_WORD = re.compile(r"[^+ ]*[+ ]?|[+ ]")  # up to where a name may be broken

INK, SOFT, FAINT, BAND = "#1b2126", "#5b6670", "#c3cad1", "#f4f6f8"
OWN = "#0072B2"  # of the reference, wherever it is drawn
COLOURS = ("#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000")
MARKERS = ("s", "D", "^", "v", "p", "<", ">", "h", "d", "8", "*")
LINES = ("--", "-.", ":", (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (3, 1)), (0, (1, 1)))
ANCHOR_MARKERS = ("+", "x", "1", "2")
STYLE: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],  # fonts as wide as the one that was measured
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.color": "#e3e7eb",
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a name with two dollar signs is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "remind",  # the same picture is the same text
}


@dataclass(frozen=True)
class Look:
    """How a method is drawn in every plot of a report."""

    colour: str
    marker: str
    line: Any
    own: bool = False

    def dot(self, size: float = 5.0) -> dict[str, Any]:
        """Return the keywords of a marker for `Axes.plot` and `Axes.errorbar`."""
        drawn = size * (1.35 if self.own else 1.0)
        thin = self.marker in ANCHOR_MARKERS
        edge = {"markeredgewidth": 1.6} if thin else {"markeredgewidth": 0.5, "markeredgecolor": "white"}
        return {"color": self.colour, "marker": self.marker, "markersize": drawn + (2 if thin else 0), **edge}


def looks(arms: Sequence[str], anchors: Iterable[str], reference: str) -> dict[str, Look]:
    """Return a look for each arm, which depends on its position among the arms alone.

    Parameters
    ----------
    arms
        Names, in the order of the tables.
    anchors
        Arms that are no methods but yardsticks; they are drawn in grey.
    reference
        The arm that the others are compared with: blue, and larger.
    """
    yardsticks = [arm for arm in arms if arm in set(anchors)]
    methods = [arm for arm in arms if arm != reference and arm not in yardsticks]
    found = {reference: Look(OWN, "o", "-", own=True)} if reference in arms else {}
    for i, arm in enumerate(methods):
        line = LINES[(i + i // len(COLOURS)) % len(LINES)]
        found[arm] = Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], line)
    for i, arm in enumerate(yardsticks):
        found[arm] = Look(SOFT, ANCHOR_MARKERS[i % len(ANCHOR_MARKERS)], (0, (1, 2)))
    return found


def inline(name: str, title: str, words: str, draw: "Callable[P, Figure]", *args: P.args, **kwargs: P.kwargs) -> Markup:
    """Draw a figure and make it SVG that stands in the page.

    Parameters
    ----------
    name
        Distinguishes the figure's ids from those of other figures on the page.
    title, words
        What a screen reader says: the name of the figure, and what it shows.
    draw
        Makes the figure, from the arguments that follow.

    Returns
    -------
    Markup
        An ``<svg>`` element without scripts, links or style sheets; the same for the same arguments.
    """
    with _style():
        figure, buffer = draw(*args, **kwargs), BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(CONTROL.sub("", buffer.getvalue().decode()))
    _adapt(root, name)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-words", "class": "plot"}
    for position, (tag, text) in enumerate((("title", title), ("desc", words))):
        element = ElementTree.Element(tag, id=f"{name}-{'title' if tag == 'title' else 'words'}")
        element.text = text
        root.insert(position, element)
    return Markup(CONTROL.sub("", ElementTree.tostring(root, encoding="unicode")))


def legend(figure: "Figure", axes: "Axes") -> None:
    """Draw one legend above the figure, with as many entries per row as fit and rows of equal length."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [wrapped(label, LEGEND_LETTERS) for label in labels]
    fitting = figure.get_figwidth() // (0.62 + LETTER * longest(labels))
    rows = math.ceil(len(labels) / max(fitting, 1))
    columns = math.ceil(len(labels) / rows)
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False, handlelength=2.4)


def label(name: str) -> str:
    """Return a name as a label, because Matplotlib leaves out labels that begin with an underscore."""
    return f"\u200b{name}" if name.startswith("_") else name


def wrapped(name: str, most: int) -> str:
    """Break a name over lines of at most `most` characters, after a plus sign or a space where there is one.

    Nothing of it is left out: two combinations of many modalities may differ in the last one alone.
    """
    lines = [""]
    for word in _WORD.findall(name):
        if len(lines[-1]) + len(word.rstrip()) > most and lines[-1]:
            lines.append("")
        rest = word
        while len(rest.rstrip()) > most:
            lines[-1], rest = rest[:most], rest[most:]
            lines.append("")
        lines[-1] += rest
    return "\n".join(line.rstrip(" ") for line in lines if line.strip(" "))


def longest(labels: Iterable[str]) -> int:
    """Return the letters of the longest line of any label."""
    return max((len(line) for label in labels for line in label.split("\n")), default=0)


def most_lines(labels: Iterable[str]) -> int:
    """Return the lines of the label that has most."""
    return max((label.count("\n") + 1 for label in labels), default=1)


@contextmanager
def _style() -> "Iterator[None]":
    """Apply our settings, without warnings about letters that the font lacks: the reader's browser draws them."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def _adapt(root: ElementTree.Element, name: str) -> None:
    """Make a stand-alone SVG part of an HTML page: no name spaces, ids of its own, neither style sheet nor metadata."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}style", "}metadata")):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(key): value for key, value in element.attrib.items()}
    targets = {link for element in root.iter() for link in LINK.findall(" ".join(_links(element)))}
    for element in root.iter():
        if (own := element.attrib.pop("id", "")) in targets:
            element.attrib["id"] = f"{name}-{own}"
        for key in LINKING & element.attrib.keys():
            element.attrib[key] = LINK.sub(rf"#{name}-\1", element.attrib[key])


def _links(element: ElementTree.Element) -> list[str]:
    return [element.attrib[key] for key in LINKING & element.attrib.keys()]


def _local(name: str) -> str:
    """Return a name without its name space."""
    return name.rpartition("}")[2]
