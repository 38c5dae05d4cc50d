"""The two tables of EMBED: which picture shows which view of which breast, and the density of that breast.

The clinical table has one row per finding, the metadata one row per file. Exam and side link them. A finding of side B,
or without a side, is about both breasts.
"""

from dataclasses import dataclass

import pandas as pd

from remind.data.importers.release import TEXT

CLINICAL = dict.fromkeys(("empi_anon", "acc_anon", "desc", "side", "tissueden"), TEXT)
IMAGES = dict.fromkeys(
    (
        "empi_anon",
        "acc_anon",
        "FinalImageType",
        "ImageLateralityFinal",
        "ViewPosition",
        "spot_mag",
        "anon_dicom_path",
    ),
    TEXT,
)
SIDES = ("L", "R")
LeftOut = list[tuple[str, int]]


@dataclass(frozen=True)
class View:
    """A modality, defined by the FinalImageType (without case, space and hyphen) and ViewPosition of its pictures."""

    name: str
    image_type: str
    position: str


VIEWS = (
    View("cview_cc", "cview", "CC"),
    View("cview_mlo", "cview", "MLO"),
    View("ffdm_cc", "2d", "CC"),
    View("ffdm_mlo", "2d", "MLO"),
)


def pick_images(rows: pd.DataFrame) -> tuple[pd.DataFrame, LeftOut]:
    """Pick at most one picture per exam, side and view: columns exam, person, side, view, path.

    Spot compressions and magnifications show only a part of the breast and are left out. If a view has several
    pictures, the one whose path sorts first is taken: an arbitrary but reproducible choice.
    """
    found = pd.DataFrame(
        {
            "exam": _identifiers(rows["acc_anon"]),
            "person": _identifiers(rows["empi_anon"]),
            "side": _texts(rows["ImageLateralityFinal"]).str.upper(),
            "view": _views(rows),
            "path": _texts(rows["anon_dicom_path"]),
        }
    )
    special = pd.to_numeric(rows["spot_mag"], errors="coerce").fillna(0) != 0
    other = found["view"].isna()
    unknown = (found[["exam", "person", "path"]] == "").any(axis=1) | ~found["side"].isin(SIDES)
    kept = found[~(other | special | unknown)].sort_values("path", kind="stable")
    first = kept.drop_duplicates(["exam", "side", "view"])
    return first, [
        ("pictures of another kind or view than the four", int(other.sum())),
        ("spot compressions and magnifications", int((special & ~other).sum())),
        ("pictures without exam, person, side or path", int((unknown & ~special & ~other).sum())),
        ("further pictures of a view of which one is taken", len(kept) - len(first)),
    ]


def densities(rows: pd.DataFrame, screening: bool) -> tuple[pd.DataFrame, LeftOut]:
    """Return each breast's density: columns exam, side, person, density.

    NaN = none given, −1 = rows contradict each other.

    It is the density in the findings about this breast; if none of them gives one, the one in the exam's other
    findings.
    """
    found = pd.DataFrame(
        {
            "exam": _identifiers(rows["acc_anon"]),
            "person": _identifiers(rows["empi_anon"]),
            "about": _texts(rows["side"]).str.upper(),
            "density": pd.to_numeric(rows["tissueden"], errors="coerce"),
        }
    )
    diagnostic = ~_texts(rows["desc"]).str.contains("screen", case=False) & screening
    found = found[~diagnostic & (found["exam"] != "") & (found["person"] != "")]
    exams = found.groupby("exam").agg(person=("person", "first"), persons=("person", "nunique"))
    whole = _agreed(found)
    parts = []
    for side in SIDES:
        (other,) = set(SIDES) - {side}
        own = _agreed(found[found["about"] != other])
        density = own.reindex(exams.index).fillna(whole.reindex(exams.index))
        parts.append(exams.assign(side=side, density=density).reset_index())
    both = pd.concat(parts, ignore_index=True)
    both.loc[both["persons"] > 1, "person"] = None
    out = [("clinical rows of diagnostic exams", int(diagnostic.sum()))]
    return both[["exam", "side", "person", "density"]], out


def label_examples(images: pd.DataFrame, density: pd.DataFrame) -> tuple[pd.DataFrame, LeftOut]:
    """Return the breasts that have a picture and a density of 1 to 4: columns exam, side, person, density."""
    breasts = images.groupby(["exam", "side"], as_index=False).agg(
        shown=("person", "first"), persons=("person", "nunique")
    )
    joined = breasts.merge(density.assign(listed=True), how="left", on=["exam", "side"])
    rules = {
        "breasts of exams that are not in the clinical table, or left out of it": joined["listed"].isna(),
        "breasts of exams whose person differs between rows": (
            (joined["person"] != joined["shown"]) | (joined["persons"] > 1)
        ),
        "breasts without a density": joined["density"].isna(),
        "breasts whose rows contradict each other on the density": joined["density"] == -1,
        "breasts with another density than 1 to 4 (5: normal male)": ~joined["density"].isin([1, 2, 3, 4]),
    }
    left = pd.Series(True, index=joined.index)
    out: LeftOut = []
    for what, breaks in rules.items():
        out.append((what, int((left & breaks).sum())))
        left &= ~breaks
    return joined.loc[left, ["exam", "side", "person", "density"]], out


def _agreed(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return the density in each exam's rows, −1 if the rows give several."""
    by = rows.dropna(subset=["density"]).groupby("exam")["density"].agg(["nunique", "first"])
    return by["first"].where(by["nunique"] == 1, -1.0)


def _views(rows: pd.DataFrame) -> "pd.Series[str]":
    kind = _texts(rows["FinalImageType"]).str.lower().str.replace(r"[\s-]", "", regex=True)
    position = _texts(rows["ViewPosition"]).str.upper()
    name = {(view.image_type, view.position): view.name for view in VIEWS}
    pairs = zip(kind, position, strict=True)
    return pd.Series([name.get(pair) for pair in pairs], index=rows.index, dtype="object")


def _identifiers(column: "pd.Series[str]") -> "pd.Series[str]":
    """Convert ids to text; an id saved as 12.0 becomes 12."""
    return _texts(column).str.replace(r"^(\d+)\.0+$", r"\1", regex=True)


def _texts(column: "pd.Series[str]") -> "pd.Series[str]":
    """Strip the cells; an empty cell becomes the empty text, even if all cells are empty."""
    return column.fillna("").astype(str).str.strip()
