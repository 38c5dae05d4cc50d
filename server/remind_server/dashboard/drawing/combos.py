"""Modality combinations as rows of a dot matrix, as in UpSet plots: one dot per modality, dark where it is present.

Lex et al. 2014, "UpSet: visualization of intersecting sets". The full name is the text of each row, for screen readers
and for copying. If it is too long for a table, it is not drawn, and an equally exact short form stands beside the
dots.
"""

from collections.abc import Sequence

from markupsafe import Markup, escape

PITCH, RADIUS, HEIGHT = 12, 4, 14  # units
MOST_LETTERS = 28  # of a name that is drawn beside its dots


def combo(name: str, modalities: Sequence[str]) -> Markup:
    """Return a group's dots and its name; for any other row, such as all groups, the name alone."""
    own = [i for i, modality in enumerate(modalities) if modality in name.split("+")]
    if not own or name != "+".join(modalities[i] for i in own):
        return Markup('<span class="whole">{}</span>').format(breakable(name))
    circles = "".join(
        f'<circle{"" if i in own else " class=off"} cx="{PITCH * i + PITCH // 2}" cy="7" r="{RADIUS}"/>'
        for i in range(len(modalities))
    )
    line = f'<path d="M{PITCH * own[0] + PITCH // 2} 7H{PITCH * own[-1] + PITCH // 2}"/>' if len(own) > 1 else ""
    width = PITCH * len(modalities)
    size = f'width="{width}" height="{HEIGHT}" viewBox="0 0 {width} {HEIGHT}"'
    drawing = Markup(f'<svg class="dots" {size} aria-hidden="true">{line}{circles}</svg>')
    if len(name) <= MOST_LETTERS:
        return Markup('<span class="combo" data-tip="{}">{}<span class="whole">{}</span></span>').format(
            name, drawing, breakable(name)
        )
    text = '<span class="combo" data-tip="{}" data-short="{}">{}<span class="whole off-screen">{}</span></span>'
    return Markup(text).format(name, short(name, modalities), drawing, breakable(name))


def heads(modalities: Sequence[str]) -> Markup:
    """Return the names of the modalities, vertical, each above its column of dots."""
    texts = Markup("").join(Markup('<span title="{0}">{0}</span>').format(name) for name in modalities)
    return Markup('<span class="modalities">{}</span>').format(texts)


def short(name: str, modalities: Sequence[str]) -> str:
    """Return a short form of a group's name: the modalities that it lacks if that is short, else their number."""
    own = name.split("+")
    lacking = [modality for modality in modalities if modality not in own]
    if not lacking:
        return f"all {len(modalities)}"
    text = f"all but {', '.join(lacking)}"
    return text if len(text) <= MOST_LETTERS else f"{len(own)} of {len(modalities)}"


def breakable(name: str) -> Markup:
    """Return an escaped name, with a possible line break after each modality."""
    return Markup("+<wbr>").join(map(escape, name.split("+")))
