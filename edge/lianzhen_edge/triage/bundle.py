"""A released model: what it is, whom it is for, and how one sees that it is unchanged.

The bundle (JSON) lies beside its ONNX file and is written by ``models/deterioration/train.py``.
Its digest stands in this program, the ONNX file's digest stands in the bundle.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Final

import msgspec

from lianzhen_protocol import news2
from lianzhen_protocol.news2 import Consciousness
from lianzhen_protocol.triage import Abstained, Silence
from lianzhen_runtime.errors import LianzhenError

FOLDER: Final = Path(__file__).parent / "models"
NAME: Final = "deterioration"
RELEASED: Final = "422f117cc61819f87afa0fc3cb965e864a27f90019cf45ebf1fd0fd57b1222d7"
"""SHA-256 of the bundle that this program was released with."""

_GRADES: Final = list(Consciousness)


class ModelRefused(LianzhenError):
    """The files are not those that were released, or they do not compute what they should."""

    code = "model-refused"
    http_status = 503


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Input(_Part, frozen=True):
    """One column. What is not measured is filled in, unless it is ``required``."""

    name: str
    fill: float
    low: float
    high: float
    required: bool


class Hinge(_Part, frozen=True):
    """``weight * max(0, side * (value - knot))`` of one input, in log-odds; for the reader."""

    input: str
    side: float
    knot: float
    weight: float


class Golden(_Part, frozen=True):
    """A row and what the model makes of it."""

    row: tuple[float, ...]
    probability: float
    parts: tuple[float, ...]


class Bundle(_Part, frozen=True):
    """Everything about a model but its weights as they run."""

    name: str
    version: str
    made: str
    onnx: str
    sha256: str
    population: str
    outcome: str
    registration: str
    inputs: tuple[Input, ...]
    least_signs: int
    threshold: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    sensitivity: float
    """At the threshold, on the calibration set."""
    start: float
    hinges: tuple[Hinge, ...]
    golden: Annotated[tuple[Golden, ...], msgspec.Meta(min_length=3)]
    data: dict[str, str]
    """SHA-256 of the files that it was trained on."""

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


def load(folder: Path = FOLDER, released: str = RELEASED) -> tuple[Bundle, bytes]:
    """Bundle and ONNX bytes, both verified; ModelRefused says which file is not as released."""
    try:
        written = (folder / f"{NAME}.json").read_bytes()
        if hashlib.sha256(written).hexdigest() != released:
            raise ModelRefused(f"{NAME}.json is not the released one: install the program again")
        bundle = msgspec.json.decode(written, type=Bundle)
        onnx = (folder / bundle.onnx).read_bytes()
    except OSError as error:
        raise ModelRefused(f"the model cannot be read: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise ModelRefused(f"{NAME}.json: {error}") from error
    if hashlib.sha256(onnx).hexdigest() != bundle.sha256:
        raise ModelRefused(f"{bundle.onnx} is not the released one: install the program again")
    return bundle, onnx


class Patient(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is asked about."""

    age_years: int | None
    pregnant: bool | None
    vitals: news2.Vitals


def row_of(bundle: Bundle, patient: Patient) -> tuple[list[float], list[str], list[Silence]]:
    """The row to compute, the inputs that were known, and every reason not to compute it."""
    known = _known(patient)
    silence = _population(patient)
    signs = [name for name in known if name != "age"]
    for column in bundle.inputs:
        value = known.get(column.name)
        if value is None and column.required and column.name != "age":
            silence.append(Silence(code=Abstained.SIGN_MISSING, about=column.name))
        if value is not None and not column.low <= value <= column.high:
            silence.append(Silence(code=Abstained.OUT_OF_RANGE, about=column.name))
    if len(signs) < bundle.least_signs:
        silence.append(Silence(code=Abstained.TOO_FEW_SIGNS))
    row = [known.get(column.name, column.fill) for column in bundle.inputs]
    return row, list(known), silence


def _known(patient: Patient) -> dict[str, float]:
    vitals = patient.vitals
    found: dict[str, float | None] = {
        "age": patient.age_years,
        "respiration": vitals.respiration,
        "spo2": vitals.spo2,
        "oxygen": None if vitals.oxygen is None else float(vitals.oxygen),
        "systolic": vitals.systolic,
        "pulse": vitals.pulse,
        "consciousness": (
            None if vitals.consciousness is None else float(_GRADES.index(vitals.consciousness))
        ),
        "temperature": vitals.temperature,
    }
    return {name: value for name, value in found.items() if value is not None}


def _population(patient: Patient) -> list[Silence]:
    if patient.age_years is None:
        return [Silence(code=Abstained.AGE_UNKNOWN)]
    exempt = news2.exempt(patient.age_years, patient.pregnant)
    return [Silence(code=Abstained(exempt))] if exempt else []


def value_text(patient: Patient, name: str) -> str:
    """An input's value as a suggestion shows it."""
    if name == "age":
        return str(patient.age_years)
    value = getattr(patient.vitals, name)
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value) if isinstance(value, Consciousness) else f"{value:g}"
