"""DICOM files made by pydicom, as a device would write them."""

from pathlib import Path

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

SECRET = "SECRET"  # stands in every attribute that says who it is; must never come out


def dataset(stored, photometric="MONOCHROME2", bits=None, syntax=ExplicitVRLittleEndian, **attributes):
    """Stored values (H, W), (D, H, W) or, with colours, (…, 3) as a dataset that can be saved."""
    stored = np.asarray(stored)
    colour = photometric not in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    *frames, rows, columns = stored.shape[:-1] if colour else stored.shape
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid(entropy_srcs=["remind"])
    made.PatientName, made.PatientID, made.StudyDescription = f"{SECRET}^JANE", SECRET, f"{SECRET} knee"
    made.Rows, made.Columns, made.SamplesPerPixel = rows, columns, 3 if colour else 1
    if colour:
        made.PlanarConfiguration = 0
    if frames:
        made.NumberOfFrames = frames[0]
    made.PhotometricInterpretation = photometric
    made.BitsAllocated = 8 * stored.itemsize
    made.BitsStored = bits or made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(stored.dtype.kind == "i")
    content = stored.astype(stored.dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes()
    made.PixelData = content + b"\0" * (len(content) % 2)
    made["PixelData"].VR = "OB" if stored.itemsize == 1 else "OW"
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def write(path: Path, made: Dataset) -> Path:
    made.save_as(path, enforce_file_format=True)
    return path


def table_item(first, bits, entries):
    """An item of a modality or VOI LUT sequence."""
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 2**16, first, bits]
    item["LUTDescriptor"].VR = "US" if first >= 0 else "SS"
    item.add_new("LUTData", "OW", np.asarray(entries, dtype="<u2").tobytes())
    return item


def item(**attributes):
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


AXIAL = [1, 0, 0, 0, 1, 0]


def slices(folder: Path, stored_DHW, names=None, **attributes):
    """One file per slice, 2 mm apart along z, at the place that its index says; names default to that order."""
    folder.mkdir(exist_ok=True)
    for d, stored_HW in enumerate(np.asarray(stored_DHW)):
        own = {"SeriesInstanceUID": "1.2.3", "InstanceNumber": d + 1, "ImageOrientationPatient": AXIAL}
        own["ImagePositionPatient"] = [-5, 7, 2 * d - 3]
        own |= {keyword: value(d) if callable(value) else value for keyword, value in attributes.items()}
        kept = {keyword: value for keyword, value in own.items() if value is not None}
        write(folder / (names[d] if names else f"{d:03}.dcm"), dataset(stored_HW, **kept))
    return folder
