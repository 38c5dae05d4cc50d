"""Plots of `remind data describe`: the long tail of the groups, and groups by site. PNG and SVG.

Groups are columns. Dots below each column show which modalities the group has, so any number of groups can be told
apart. Colours keep their order of brightness in grey print and for colour-blind readers. Suppressed counts are hatched.
Matplotlib is imported only when something is drawn.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from remind import groups
from remind.data.checks.describe import Description
from remind.data.cohort.problems import counted
from remind.errors import UserError
from remind.files import write_whole
from remind.privacy.published_counts import WITHHELD

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

COLUMN, ROW, DOTS, LETTER = 0.27, 0.27, 0.2, 0.07  # inches per group, site, modality, letter of a name
MOST_GROUPS, MOST_SITES = 200, 250  # largest numbers that are drawn; the tables hold all
FEWEST = 6  # the plot is wide enough for this many columns, even with fewer groups
WIDE = 7.0  # from this width in inches, legend entries stand side by side
HEAD, TAIL, EMPTY, EDGE = "#14375a", "#e6a13c", "#dedede", "#666666"
HATCHED: dict[str, Any] = {"facecolor": "white", "edgecolor": EDGE, "hatch": "/////", "linewidth": 0.5}
LOG_FROM = 30  # ratio of largest to smallest group from which the axis is logarithmic
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "remind",  # the same picture gives the same file
    "text.parse_math": False,  # a name with two dollar signs is not a formula
}


def draw(description: Description, folder: Path) -> list[Path]:
    """Draw the plots of a cohort.

    Parameters
    ----------
    folder
        Created if it does not exist. Plots of a cohort with the same name are replaced.

    Returns
    -------
    list of Path
        ``<cohort>-groups`` and, if there are sites, ``<cohort>-sites``, each as .png and .svg.

    Raises
    ------
    UserError
        The folder cannot be written.
    """
    import matplotlib as mpl

    folder = folder.expanduser()
    stem = re.sub(r"[^\w.-]+", "_", description.name)
    title, cut = _title(description), _cut(description)
    with mpl.rc_context(STYLE):
        figures = {"groups": draw_groups(cut, title)}
        if description.sites:
            figures["sites"] = draw_sites(cut, title)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return [path for name, figure in figures.items() for path in _saved(figure, folder, f"{stem}-{name}")]
        except OSError as error:
            raise UserError(f"--out {folder}: cannot be written: {error.strerror or error}; name another") from None


def draw_groups(description: Description, title: str) -> "Figure":
    """Draw the shares of the groups as bars, the largest first, above the dots that identify the groups."""
    n_groups = len(description.count_G)
    figure, bars, dots = _columns(n_groups, 2.6, len(description.modalities), _longest(description.modalities))
    known_G = description.count_G != WITHHELD
    share_G = np.where(known_G, description.count_G / description.patients, np.nan)
    lowest = np.nanmin(share_G) if known_G.any() else 1.0
    ground = 0.0
    if known_G.any() and np.nanmax(share_G) / lowest > LOG_FROM:
        bars.set_yscale("log")
        ground = lowest / 2
    for label, colour, chosen_G in (
        (f"head: at least {groups.TAIL_SHARE:.0%} of the patients", HEAD, known_G & ~description.tail_G),
        (f"tail: below {groups.TAIL_SHARE:.0%}", TAIL, known_G & description.tail_G),
    ):
        at = np.flatnonzero(chosen_G)
        if at.size:
            bars.bar(at, share_G[at] - ground, 0.76, bottom=ground, color=colour, label=label)
    if not known_G.all():  # the height of an unknown bar has no meaning
        height = min((lowest - ground) / 2, 0.04)
        bars.bar(np.flatnonzero(~known_G), height, 0.76, bottom=ground, label=_withheld(description), **HATCHED)
    for g in np.flatnonzero(known_G):
        text = f"{description.count_G[g]:,}".replace(",", " ")
        bars.annotate(
            text,
            (g, share_G[g]),
            (0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            rotation=90 if n_groups > 2 * FEWEST else 0,
        )
    if (share_G > groups.TAIL_SHARE / 2).any():  # otherwise the line would leave no room for the bars
        bars.axhline(groups.TAIL_SHARE, color=EDGE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    bars.margins(y=0.16)
    bars.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    bars.set_ylabel("share of the patients")
    bars.set_title(title, loc="left")
    _draw_dots(dots, description)
    columns = 3 if figure.get_figwidth() > WIDE else 1
    figure.legend(*bars.get_legend_handles_labels(), loc="outside lower left", ncols=columns, frameon=False)
    return figure


def draw_sites(description: Description, title: str) -> "Figure":
    """Draw the number of patients per group and site (darker for more), above the dots that identify the groups."""
    from matplotlib.colors import LogNorm

    count_SG = description.count_GS.T
    n_sites, n_groups = count_SG.shape
    names = [
        f"{site}  {'*' if n == WITHHELD else n}" for site, n in zip(description.sites, description.count_S, strict=True)
    ]
    width = max(_longest(names), _longest(description.modalities))
    figure, heat, dots = _columns(n_groups, ROW * n_sites, len(description.modalities), width)
    drawn_SG = np.ma.masked_less(count_SG, 1)
    norm = LogNorm(1, max(2, int(count_SG.max())))
    edges_G, edges_S = np.arange(n_groups + 1) - 0.5, np.arange(n_sites + 1) - 0.5
    heat.pcolormesh(edges_G, edges_S, drawn_SG, norm=norm, cmap="Blues", edgecolor="white", linewidth=0.8)
    for s, g in np.argwhere(count_SG > 0):
        n = int(count_SG[s, g])
        light = float(norm(n)) > 0.6
        text = heat.text(g, s, str(n), ha="center", va="center", fontsize=6, color="white" if light else "black")
        text.set_in_layout(False)  # otherwise matplotlib measures thousands of texts one by one
    for s, g in np.argwhere(count_SG == WITHHELD):
        heat.add_patch(_hatched(g, s, 0.9)).set_in_layout(False)
    heat.set_yticks(range(n_sites), names)
    heat.set_ylim(n_sites - 0.5, -0.5)
    heat.tick_params(length=0)
    heat.spines[:].set_visible(False)
    heat.set_title(title, loc="left")
    _draw_dots(dots, description)
    if (count_SG == WITHHELD).any():
        figure.legend([_hatched(0, 0, 1)], [_withheld(description)], loc="outside lower left", frameon=False)
    return figure


def _columns(n_groups: int, height: float, n_modalities: int, label: int) -> "tuple[Figure, Axes, Axes]":
    """Create a figure whose upper and lower part share the group columns. Heights in inches, `label` in characters."""
    from matplotlib.figure import Figure

    width, dots = COLUMN * max(n_groups, 2 * FEWEST) + LETTER * label + 0.8, DOTS * n_modalities
    figure = Figure(figsize=(width, height + dots + 0.9), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (height, dots)})
    lower.set_xlim(-0.6, max(n_groups, FEWEST) - 0.4)
    return figure, upper, lower


def _hatched(g: float, s: float, side: float) -> "Rectangle":
    """Hatch a cell whose number is suppressed."""
    from matplotlib.patches import Rectangle

    return Rectangle((g - side / 2, s - side / 2), side, side, **HATCHED)


def _withheld(description: Description) -> str:
    return f"withheld: below {description.min_count}, or such a count would follow from it"


def _draw_dots(dots: "Axes", description: Description) -> None:
    """Draw the modalities of each group: a dark dot for each modality, and a line from the first dot to the last."""
    n_modalities = len(description.modalities)
    for m in range(0, n_modalities, 2):
        dots.axhspan(m - 0.5, m + 0.5, color="#f4f4f4", linewidth=0, zorder=0)
    for member, colour in ((False, EMPTY), (True, HEAD)):
        at = np.nonzero(description.member_Gm == member)
        dots.scatter(at[0], at[1], s=22, color=colour, linewidth=0, zorder=2)
    for g, member_m in enumerate(description.member_Gm):
        having = np.flatnonzero(member_m)
        dots.plot(np.full(len(having), g), having, color=HEAD, linewidth=1.4, zorder=1)
    dots.set_yticks(range(n_modalities), description.modalities)
    dots.set_ylim(n_modalities - 0.5, -0.5)
    dots.set_xticks([])
    dots.tick_params(length=0)
    dots.spines[:].set_visible(False)


def _title(description: Description) -> str:
    n_groups, n_sites = len(description.count_G), len(description.sites)
    rest = f" (the first {MOST_GROUPS} drawn)" if n_groups > MOST_GROUPS else ""
    title = f"{description.name}: {counted(description.patients, 'patient')} in {counted(n_groups, 'group')}{rest}"
    return title + (f", {n_sites} sites (the first {MOST_SITES} drawn)" if n_sites > MOST_SITES else "")


def _cut(description: Description) -> Description:
    """Limit groups and sites to as many as a picture can hold."""
    return replace(
        description,
        sites=description.sites[:MOST_SITES],
        member_Gm=description.member_Gm[:MOST_GROUPS],
        count_G=description.count_G[:MOST_GROUPS],
        count_S=description.count_S[:MOST_SITES],
        count_GS=description.count_GS[:MOST_GROUPS, :MOST_SITES],
        count_GC=description.count_GC[:MOST_GROUPS],
    )


def _longest(names: Sequence[str]) -> int:
    return max(map(len, names))


def _saved(figure: "Figure", folder: Path, stem: str) -> list[Path]:
    png, svg = folder / f"{stem}.png", folder / f"{stem}.svg"
    write_whole(png, partial(figure.savefig, format="png", dpi=160))
    write_whole(svg, partial(figure.savefig, format="svg", metadata={"Date": None}))
    return [png, svg]
