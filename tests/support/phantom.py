"""A CT phantom of which all sizes and values are known: what a viewer measures can be checked."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from pydicom.uid import generate_uid

from .modality import ct_slice

SIDE: Final = 128
SPACING_MM: Final = 0.8
ROD: Final = (40, 64, 14)
"""Column, row and radius, in pixels, of a rod of ``ROD_HU`` and one more in each slice."""
ROD_HU: Final = 100
APART_MM: Final = 5


def slices(folder: Path, count: int, number: str, date: str, **more: Any) -> list[Path]:
    """Files of a series of ``count`` slices of the patient of ``number``, in a study of its own."""
    study, series = generate_uid(), generate_uid()
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    column, row, radius = ROD
    paths = []
    for at in range(count):
        values = np.full((SIDE, SIDE), -1000)
        values[((columns - 64) / 54) ** 2 + ((rows - 64) / 46) ** 2 <= 1] = 40
        values[((columns - 64) / 50) ** 2 + ((rows - 64) / 42) ** 2 <= 1] = -850
        values[(columns - column) ** 2 + (rows - row) ** 2 <= radius**2] = ROD_HU + at
        values[(columns - 90) ** 2 + (rows - 64) ** 2 <= 8**2] = 700
        image = ct_slice(at + 1, study, series, SIDE, **_attributes(at), **more)
        image.StudyDate, image.PatientID = date, number
        image.PixelData = (values + 1024).astype("<u2").tobytes()
        paths.append(folder / f"{date}-{at:03d}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    return paths


def _attributes(at: int) -> dict[str, Any]:
    return {
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
        "WindowCenter": "40",
        "WindowWidth": "400",
        "PixelSpacing": [SPACING_MM, SPACING_MM],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [0, 0, at * APART_MM],
        "PatientName": "张^三",
        "PatientBirthDate": "19491231",
        "StudyDescription": "Chest",
        "SeriesDescription": "5 mm",
    }
