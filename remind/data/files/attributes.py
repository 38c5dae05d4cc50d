"""Reads the attributes of one DICOM frame, wherever the file stores them.

Single-frame files store them at the top level. Multi-frame files store them in functional groups (DICOM PS3.3
C.7.6.16), either per frame or shared by all frames.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset

MACROS = {
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "WindowWidth": "FrameVOILUTSequence",
    "VOILUTFunction": "FrameVOILUTSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "InStackPositionNumber": "FrameContentSequence",
}


def attribute(dataset: "Dataset", frame: int, keyword: str) -> Any:
    """Return the value of `keyword` for a frame, counted from 0; None if it is absent or empty."""
    own = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    for groups in (*own, *shared):
        macro = groups.get(MACROS[keyword])
        if macro and not _empty(value := macro[0].get(keyword)):
            return value
    value = dataset.get(keyword)
    return None if _empty(value) else value


def numbers(dataset: "Dataset", frame: int, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return the first `count` numbers of an attribute, or None if there are fewer."""
    value = attribute(dataset, frame, keyword)
    if value is None:
        return None
    values = [value] if isinstance(value, int | float | str) else list(value)
    found = tuple(float(v) for v in values[:count] if not _empty(v))
    return found if len(found) == count else None


def _empty(value: Any) -> bool:
    return value is None or value == ""
