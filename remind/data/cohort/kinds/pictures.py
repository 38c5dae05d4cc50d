"""Images, volumes and videos: a table of paths; pixels are read when they are needed.

Letters: R rows, N patients, C channels, D slices or frames, H rows and W columns of pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from remind.data.cohort.contents import OnePerPatient
from remind.data.cohort.file_kind import PathKind, PathSection
from remind.data.cohort.kind import Seen, Text, register
from remind.data.cohort.kinds.picture_warnings import look
from remind.data.cohort.modality_schema import ModalitySchema
from remind.data.files import (
    Sight,
    examine_image,
    examine_volume,
    fit_image,
    fit_volume,
    read_image,
    read_volume,
)
from remind.data.files.pixels import Channels

Side = Annotated[int, Field(ge=1, le=4096)]
Width = Annotated[float, Field(gt=0)]


class ImageSection(PathSection):
    """One picture per patient: a table of paths to PNG, JPEG or DICOM files."""

    kind: Literal["image"]
    size: tuple[Side, Side] = (224, 224)
    channels: Channels = 3
    resize: bool = True
    window: tuple[float, Width] | None = None


class VolumeSection(PathSection):
    """One stack of slices (volume) or frames (video) per patient: a table of paths to NIfTI, DICOM or .npy files."""

    kind: Literal["volume", "video"]
    size: tuple[Side, Side, Side]
    channels: Channels = 1
    resize: bool = False
    window: tuple[float, Width] | None = None


class ImageSchema(ModalitySchema):
    """A modality with one picture per patient; `size` is the (height, width) that encoders receive, in pixels."""

    kind: Literal["image"] = "image"
    size: tuple[int, int]
    channels: Channels


class VolumeSchema(ModalitySchema):
    """A modality with one stack of pictures per patient; `size` is (slices or frames, height, width)."""

    kind: Literal["volume", "video"] = "volume"
    size: tuple[int, int, int]
    channels: Channels


@dataclass(frozen=True)
class Reading:
    """How a site converts its files to pixels: the window (centre, width) of grey values, and whether to resize.

    Without a window, the file's own window applies. Without resizing, a picture of another size is an error.
    """

    window: tuple[float, float] | None = None
    resize: bool = True


@dataclass(frozen=True, eq=False)
class Files(OnePerPatient):
    """One image, volume or video per patient: the path of its file, its pixels, or None.

    Attributes
    ----------
    source_N
        Objects: ``Path``, an array (H, W), (H, W, 3), (D, H, W) or (D, H, W, 3), or ``None``.
    reading
        How this site converts files to pixels.
    """

    reading: Reading = Reading()

    def joined(self, others: Sequence[Self]) -> Self:
        """Return these patients followed by those of others.

        Raises
        ------
        ValueError
            The sites convert their files to pixels in different ways, so the pixels are not comparable.
        """
        if any(part.reading != self.reading for part in others):
            raise ValueError("files that are read in different ways cannot be joined")
        return super().joined(others)

    @override
    def feed(self, sha: Any) -> None:
        sha.update(repr(self.reading).encode())
        super().feed(sha)

    @override
    def converted(self) -> str:
        return str(self.reading)


PictureSection = TypeVar("PictureSection", ImageSection, VolumeSection)
PictureSchema = TypeVar("PictureSchema", ImageSchema, VolumeSchema)


class _Pictures(PathKind[PictureSection, PictureSchema, Files]):
    """What images and stacks have in common."""

    pictures = True
    contents = Files

    @override
    def of_sources(self, source_N: NDArray[np.object_], section: PictureSection) -> Files:
        return Files(source_N, Reading(section.window, section.resize))

    @override
    def describe(self, schema: PictureSchema) -> str:
        size = "×".join(map(str, schema.size))
        return f"{schema.kind}, {size}, {'grey' if schema.channels == 1 else 'colour'}"

    @override
    def look(self, schema: PictureSchema, contents: Files, patient_id_N: Text, sights: Mapping[Path, Sight]) -> Seen:
        return look(schema.name, schema.size, contents, patient_id_N, sights)

    @override
    def fields(self, schema: PictureSchema, contents: Files) -> dict[str, Any]:
        window = {} if contents.reading.window is None else {"window": contents.reading.window}
        return {"size": schema.size, "channels": schema.channels, "resize": contents.reading.resize, **window}

    @override
    def shape(self, schema: PictureSchema) -> tuple[int, ...]:
        return (schema.channels, *schema.size)

    @override
    def save(self, array: NDArray[Any], stem: Path) -> Path:
        path = stem.with_suffix(".npy")
        np.save(path, array, allow_pickle=False)
        return path


@register
class ImageKind(_Pictures[ImageSection, ImageSchema]):
    """Images."""

    section, schema = ImageSection, ImageSchema

    @override
    def declared(self, name: str, section: ImageSection) -> ImageSchema:
        return ImageSchema(name=name, size=section.size, channels=section.channels)

    @override
    def examine(self, schema: ImageSchema, contents: Files, path: Path) -> Sight:
        return examine_image(path, schema.size, schema.channels, contents.reading.window, contents.reading.resize)

    @override
    def load(self, schema: ImageSchema, contents: Files, source: Any) -> NDArray[np.float32]:
        """Load the pixels (C, H, W) in [0, 1]."""
        window, resize = contents.reading.window, contents.reading.resize
        if isinstance(source, Path):
            return read_image(source, schema.size, schema.channels, window, resize)
        return fit_image(source, schema.size, schema.channels, resize, window)

    @override
    def save(self, array: NDArray[Any], stem: Path) -> Path:
        if array.dtype != np.uint8:
            return super().save(array, stem)
        from PIL import Image

        path = stem.with_suffix(".png")
        Image.fromarray(array).save(path)
        return path


@register
class StackKind(_Pictures[VolumeSection, VolumeSchema]):
    """Volumes and videos."""

    section, schema = VolumeSection, VolumeSchema

    @override
    def declared(self, name: str, section: VolumeSection) -> VolumeSchema:
        return VolumeSchema(kind=section.kind, name=name, size=section.size, channels=section.channels)

    @override
    def examine(self, schema: VolumeSchema, contents: Files, path: Path) -> Sight:
        return examine_volume(path, schema.size, schema.channels, contents.reading.window, contents.reading.resize)

    @override
    def load(self, schema: VolumeSchema, contents: Files, source: Any) -> NDArray[np.float32]:
        """Load the pixels (C, D, H, W) in [0, 1]."""
        window, resize = contents.reading.window, contents.reading.resize
        if isinstance(source, Path):
            return read_volume(source, schema.size, schema.channels, window, resize)
        return fit_volume(source, schema.size, schema.channels, resize, window)
