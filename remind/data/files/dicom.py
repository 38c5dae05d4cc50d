"""DICOM: a file, or a folder of slices.

Only the attributes in `TAGS` are parsed. No data about the patient is ever in memory, so none can appear in a message.
Sections are those of DICOM PS3.3. Letters: D frames or slices, H rows, W columns.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remind.data.files import grey
from remind.data.files.errors import DAMAGED, Unreadable, inside
from remind.data.files.geometry import along_normal, orientation_of, remarks_on
from remind.data.files.pixels import Pixels, Window, check_shape, ends
from remind.data.files.series import in_order

if TYPE_CHECKING:
    from pydicom import Dataset

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
PALETTE = tuple(
    f"{colour}PaletteColorLookupTable{part}" for colour in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")
)
TAGS = (
    *("SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "NumberOfFrames"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(*PALETTE, *(f"Segmented{name}" for name in PALETTE if name.endswith("Data"))),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", *PIXELS),
)


def decode(path: Path, window: Window | None) -> Pixels:
    """Decode the frames of a DICOM file, or of a folder with the slices of one series.

    Grey (C.11.1, C.11.2): apply the modality LUT or rescale, then the `window`. Without a `window`, use the file's own
    VOI LUT or window if all frames have the same; else the range of the stored bits, if they are at most 8 and not
    rescaled; else `pixels.own_range`. MONOCHROME1 is inverted. Padding is black. Colour (C.7.6.3.1.2) becomes RGB over
    the range of its bits.

    Raises
    ------
    Unreadable
        There are no pixels, no decoder for the compression, an unknown photometric interpretation, or damaged data;
        also as in `series.in_order`.
    """
    if path.is_dir():
        datasets, names = in_order(path, _read)
        stored = []
        for dataset, name in zip(datasets, names, strict=True):
            with inside(name):
                stored.append(_stored(dataset))
            for keyword in PIXELS:  # read once: there may be hundreds of slices
                dataset.pop(keyword, None)
    else:
        datasets = [_read(path)]
        stored = [_stored(datasets[0])]
    first = datasets[0]
    if first.PhotometricInterpretation in GREY:
        pixels = grey.pixels(datasets, stored, window, inverted=first.PhotometricInterpretation == "MONOCHROME1")
    else:
        frames = np.concatenate(stored)
        bits = 8 * frames.itemsize if first.PhotometricInterpretation == "PALETTE COLOR" else int(first.BitsStored)
        black, white = (0, 2**bits - 1) if window is None else ends(window)
        pixels = Pixels(frames, black, white, "type" if window is None else "window")
    slices = [(dataset, frame) for dataset, array in zip(datasets, stored, strict=True) for frame in range(len(array))]
    if len(datasets) == 1 and len(slices) > 1:  # a multi-frame file need not store its slices in order
        order = along_normal(slices)
        if order is not None:
            slices, pixels = [slices[i] for i in order], replace(pixels, array=pixels.array[order])
    return replace(pixels, orientation=orientation_of(slices), remarks=tuple(remarks_on(slices)))


def decoders() -> str:
    """Return a text naming the decoders of each transfer syntax that pydicom knows; it changes if a decoder changes."""
    _pydicom()
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import AllTransferSyntaxes

    lines = []
    for syntax in AllTransferSyntaxes:
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            continue
        lines.append(f"{syntax}: {decoder.is_available} {' '.join(decoder.available_plugins)}")
    return "\n".join(lines)


def _read(path: Path) -> "Dataset":
    dataset: Dataset = _pydicom().dcmread(path, specific_tags=list(TAGS))
    if not any(keyword in dataset for keyword in PIXELS):
        raise Unreadable("holds no pixels, or is truncated", "name the image itself, or export it again")
    if dataset.get("PhotometricInterpretation") not in GREY + COLOUR:
        what = "its Photometric Interpretation (0028,0004) is none that is read"
        raise Unreadable(what, f"convert it to one of {', '.join(GREY + COLOUR)}")
    check_shape((dataset.get("NumberOfFrames") or 1, dataset.Rows, dataset.Columns))
    return dataset


def _stored(dataset: "Dataset") -> NDArray[Any]:
    """Return the stored values (D, H, W); colours (D, H, W, 3) as RGB.

    Raises
    ------
    Unreadable
        There is no decoder for the compression, or the pixels are damaged.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise Unreadable("does not say its Transfer Syntax (0002,0010)", DAMAGED)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        # A UID that DICOM does not define may be any text.
        name = f"{syntax.name}, which is not decoded" if syntax.name != syntax else "nothing that is known"
        what = f"its Transfer Syntax (0002,0010) is {name}"
        raise Unreadable(what, "save it uncompressed, or as .npy") from None
    lacking = [text.split(" requires ")[-1] for text in decoder.missing_dependencies if text.startswith("pylibjpeg")]
    remedy = f"install {lacking[0]}, or save it uncompressed" if lacking else "save it uncompressed"
    if not decoder.is_available:
        raise Unreadable(f"its pixels are compressed as {syntax.name}, for which no decoder is installed", remedy)
    try:
        array = pixel_array(dataset)
    except Exception:
        if not syntax.is_compressed:
            raise
        what = f"its pixels, compressed as {syntax.name}, are damaged or of a kind that the decoder does not know"
        raise Unreadable(what, remedy) from None
    colours = (3,) if dataset.SamplesPerPixel == 3 else ()
    frames = array.reshape(-1, dataset.Rows, dataset.Columns, *colours)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return np.asarray(apply_color_lut(frames, dataset))[..., :3]
    return frames


@cache
def _pydicom() -> Any:
    """Import pydicom and silence its logs and warnings, because they may quote headers."""
    import logging
    import warnings

    import pydicom

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
    return pydicom
