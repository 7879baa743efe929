"""Rows out of PhysioNet/CinC 2012: what a stay's vital signs were at a given hour.

A row holds the newest value of each sign within ``WINDOW`` before that hour, as a box would have
had it. Stays never share a row's set: set a trains, set b calibrates, set c judges.
"""

import csv
import hashlib
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lianzhen_protocol.news2 import Consciousness, Vitals

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHA256: Final = {
    "icu2012_long.npz": "7d6650de2cd927e8acd107050f51d47735126c82a592e1a5b2b1a0a2694965ba",
    "outcomes.csv": "a8234279e0963ed54bdeea48d2297053b38a9e11be9cdc17d5581a9ae5bacfe9",
}
INPUTS: Final = (
    *("age", "respiration", "spo2", "oxygen", "systolic", "pulse", "consciousness", "temperature"),
)
WINDOW_MINUTES: Final = 12 * 60
SOURCES: Final[dict[str, tuple[tuple[str, ...], float, float]]] = {
    "respiration": (("RespRate",), 3, 70),
    "spo2": (("SaO2",), 50, 100),
    "systolic": (("NISysABP", "SysABP"), 40, 300),
    "pulse": (("HR",), 20, 250),
    "temperature": (("Temp",), 28, 44),
}
"""Sign -> its names in the set, and what is taken for a measurement (0 and -17.8 are none)."""

ACVPU_OF_GCS: Final = ((15, "A"), (14, "C"), (11, "V"), (6, "P"), (3, "U"))
"""From this Glasgow Coma Scale up. Between the medians of AVPU (15, 13, 8, 3: McNarry and Goldhill,
Anaesthesia 2004, 59: 34-37); 14 is what confused speech alone comes to."""


class Stays(NamedTuple):
    """One line a stay, in the order of ``stay``."""

    stay: Ints
    set: Ints
    died: Ints


class Rows(NamedTuple):
    """``x`` is (rows, inputs) with NaN for "not measured"; ``stay`` indexes ``Stays``."""

    x: Floats
    stay: Ints


class Challenge:
    """The data set, verified."""

    def __init__(self, folder: Path) -> None:
        for name, digest in SHA256.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise SystemExit(f"{folder / name} is not the file that this script was made for")
        with np.load(folder / "icu2012_long.npz") as npz:
            self._names = [str(name) for name in npz["param"]]
            self._minute, self._code, self._value = npz["t"], npz["p"], npz["v"]
            stay, first, self._of = np.unique(npz["rid"], return_index=True, return_inverse=True)
            sets = npz["set"][first]
        with (folder / "outcomes.csv").open(encoding="utf-8", newline="") as lines:
            died = {int(r["RecordID"]): int(r["In-hospital_death"]) for r in csv.DictReader(lines)}
        outcome = np.array([died[int(number)] for number in stay], dtype=np.int64)
        self.stays = Stays(stay.astype(np.int64), sets.astype(np.int64), outcome)
        self._age = self._newest(("Age",), 48 * 60, 49 * 60, 0, 130)

    def rows(self, hour: int, which: Ints) -> Rows:
        """The stays ``which`` as they were at ``hour``."""
        minute = hour * 60
        columns = {
            sign: self._newest(names, minute, WINDOW_MINUTES, low, high)
            for sign, (names, low, high) in SOURCES.items()
        }
        columns["age"] = self._age
        columns["consciousness"] = _acvpu(self._newest(("GCS",), minute, WINDOW_MINUTES, 3, 15))
        # The set notes oxygen only where something was set on a machine: no note is taken for air.
        fraction = self._newest(("FiO2",), minute, WINDOW_MINUTES, 0.2, 1)
        ventilated = self._newest(("MechVent",), minute, WINDOW_MINUTES, 1, 1)
        columns["oxygen"] = ((fraction > 0.21) | (ventilated == 1)).astype(np.float64)
        return Rows(np.stack([columns[sign][which] for sign in INPUTS], axis=1), which)

    def _newest(
        self, names: tuple[str, ...], minute: int, window: int, low: float, high: float
    ) -> Floats:
        """(stays,): the last value of a sign up to ``minute``, NaN where there is none."""
        codes = [self._names.index(name) for name in names]
        keep = np.isin(self._code, codes) & (self._minute <= minute)
        keep &= (self._minute > minute - window) & (self._value >= low) & (self._value <= high)
        order = np.argsort(self._minute[keep], kind="stable")
        found = np.full(len(self.stays.stay), np.nan)
        found[self._of[keep][order]] = self._value[keep][order]  # the last one written stays
        return found


def _acvpu(gcs: Floats) -> Floats:
    """0 (alert) to 4 (unresponsive)."""
    grades = np.select([gcs >= least for least, _ in ACVPU_OF_GCS], range(5), np.nan)
    return np.asarray(grades, dtype=np.float64)


def vitals_of(row: Floats) -> Vitals:
    """A row as NEWS2 sees it."""
    found = {
        sign: None if np.isnan(value) else float(value)
        for sign, value in zip(INPUTS, row, strict=True)
    }
    grade, oxygen = found["consciousness"], found["oxygen"]
    return Vitals(
        respiration=found["respiration"],
        spo2=found["spo2"],
        oxygen=None if oxygen is None else bool(oxygen),
        systolic=found["systolic"],
        pulse=found["pulse"],
        consciousness=None if grade is None else list(Consciousness)[int(grade)],
        temperature=found["temperature"],
    )
