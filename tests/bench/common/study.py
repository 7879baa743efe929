"""A study as a CT makes it: slices of a body with the noise of a real one, so that what is made of
them is as large as of real ones, and no two are equal.
"""

from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid

from support.modality import ct_slice

SIDE = 512


def phantom(number: int) -> bytes:
    """Pixels of a slice: bed, body, two lungs and a spine in Hounsfield units + 1024."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    image = np.zeros((SIDE, SIDE))
    for height, width, at_x, at_y, value in (
        (0.62, 0.85, 0.0, 0.0, 1064),
        (0.4 + number / 200, 0.28, -0.4, -0.05, 200),
        (0.4 + number / 200, 0.28, 0.4, -0.05, 220),
        (0.12, 0.12, 0.0, 0.42, 1900),
    ):
        image[((x - at_x) / width) ** 2 + ((y - at_y) / height) ** 2 < 1] = value
    noise = np.random.default_rng(number).normal(0, 12, (SIDE, SIDE))
    return np.clip(image + noise, 0, 4095).astype("<u2").tobytes()


def study(folder: Path, count: int) -> list[Path]:
    """Files of a study of ``count`` slices, half a megabyte each."""
    study_uid, series_uid = generate_uid(), generate_uid()
    found = []
    for number in range(count):
        image = ct_slice(number, study_uid, series_uid, side=SIDE)
        image.PixelData = phantom(number)
        image.RescaleIntercept, image.RescaleSlope = -1024, 1
        image.WindowCenter, image.WindowWidth = 40, 400
        path = folder / f"{number:04d}.dcm"
        image.save_as(path, enforce_file_format=True)
        found.append(path)
    return found
