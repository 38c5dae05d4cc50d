"""Stored values of pictures in DICOM files of tests."""

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from tests.builders.dicoms import dataset, item

ROWS, COLUMNS = 6, 5
RNG = np.random.default_rng(11)
CT_HW = RNG.integers(0, 4096, (ROWS, COLUMNS)).astype(np.uint16)
HU_HW = CT_HW - 1024.0
CT = {"bits": 12, "RescaleSlope": 1, "RescaleIntercept": -1024}
BYTES_HW = RNG.integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)
COLOUR_HW3 = RNG.integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)
FILM_DHW = RNG.integers(0, 256, (4, ROWS, COLUMNS), dtype=np.uint8)
SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless]


def enhanced(stored_DHW, places, slope=lambda d: 1, window=lambda d: (100, 200)):
    """A multi-frame file with functional groups; frame d at places[d] along x."""
    made = dataset(stored_DHW)
    made.SharedFunctionalGroupsSequence = [
        item(PlaneOrientationSequence=[item(ImageOrientationPatient=[0, 1, 0, 0, 0, 1])])
    ]
    made.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[place, 0, 0])],
            PixelValueTransformationSequence=[item(RescaleSlope=slope(d), RescaleIntercept=0, RescaleType="US")],
            FrameVOILUTSequence=[item(WindowCenter=window(d)[0], WindowWidth=window(d)[1])],
        )
        for d, place in enumerate(places)
    ]
    return made


def encapsulated(syntax):
    made = dataset(BYTES_HW)
    made.PixelData = encapsulate([b"\xff\xd8" + BYTES_HW.tobytes()])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = syntax
    return made


def linear(x, c, w):
    """PS3.3 C.11.2.1.2.1, as it is written there, with y from 0 to 1."""
    y = np.empty(x.shape)
    y[x <= c - 0.5 - (w - 1) / 2] = 0
    y[x > c - 0.5 + (w - 1) / 2] = 1
    inside = (x > c - 0.5 - (w - 1) / 2) & (x <= c - 0.5 + (w - 1) / 2)
    y[inside] = (x[inside] - (c - 0.5)) / (w - 1) + 0.5 if w > 1 else 0
    return y
