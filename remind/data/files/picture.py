"""PNG, JPEG, TIFF, GIF and BMP, decoded by Pillow."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remind.data.files.errors import DAMAGED, Unreadable
from remind.data.files.pixels import Pixels, Window, check_shape, plain
from remind.data.files.tiff import check_pages

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP")
KNOWN = f"{', '.join(FORMATS)}, DICOM, NIfTI (.nii, .nii.gz) or .npy"
WHITE_IS_ZERO = 0  # TIFF's PhotometricInterpretation, tag 262


def decode(path: Path, window: Window | None) -> Pixels:
    """Decode the frames of a picture file, rotated as EXIF requires. Transparent parts become black.

    Grey is read with 1, 8, 16 or 32 bits, colour with 8: Pillow reduces 16-bit colours.

    Raises
    ------
    Unreadable
        The format is not supported, the file is truncated or too large, or its pages have different sizes.
    """
    from PIL import Image, UnidentifiedImageError

    check_pages(path)
    try:
        image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        raise Unreadable("is damaged, or no format that is read", f"save it as {KNOWN}") from None
    except Image.DecompressionBombError:
        raise Unreadable("is too large", "crop it or make it smaller") from None
    with image:
        if image.format == "GIF" and not path.read_bytes().rstrip(b"\0").endswith(b";"):
            raise Unreadable("is truncated", DAMAGED)  # Pillow would return only the frames that are left
        # A phone's JPEG may contain previews of other sizes after the photograph (format MPO).
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        check_shape((frames, image.height, image.width))
        arrays = []
        for frame in range(frames):
            image.seek(frame)
            arrays.append(_array(image))
    if len({array.shape[:2] for array in arrays}) > 1:
        raise Unreadable("has pages of different sizes", "save them as one file each")
    if len({(array.ndim, array.dtype) for array in arrays}) > 1:  # a GIF's first frame grey, the others in colour
        arrays = [_colour(array) for array in arrays]
    return plain(np.stack(arrays), window)


def _array(image: "Image") -> NDArray[Any]:
    """Return the current frame, (H, W) or (H, W, 3)."""
    from PIL import Image, ImageOps

    inverted = image.mode.startswith("I;16") and _photometric(image) == WHITE_IS_ZERO  # Pillow inverts 8 bits itself
    upright = ImageOps.exif_transpose(image)
    if upright.mode not in ("1", "L", "F", "I", "RGB") and not upright.mode.startswith("I;16"):
        if upright.has_transparency_data:
            black = Image.new("RGBA", upright.size, (0, 0, 0, 255))
            upright = Image.alpha_composite(black, upright.convert("RGBA"))
        upright = upright.convert("RGB")
    array = np.asarray(upright)
    return np.invert(array) if inverted else array


def _photometric(image: "Image") -> int | None:
    tags = getattr(image, "tag_v2", {})  # only TIFF has them
    value: int | None = tags.get(262)
    return value


def _colour(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise Unreadable("has pages of different kinds", "save them as one file each")
    return array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)
