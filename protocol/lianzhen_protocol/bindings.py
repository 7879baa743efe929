"""Which device a patient wears, from when to when, and who says so.

A reading belongs to whoever wore the device at the reading's own time, however late it arrives.
The spans of a device never overlap. A span that turns out wrong is cut short, to nothing if need
be: its readings belong to nobody then, and wait.
"""

from collections.abc import Callable
from typing import ClassVar, Final

import msgspec

from .errors import PatientError
from .people import By, known_patient
from .records import Body
from .sheets import Index, Sheet, Sheets

OPEN: Final = "open"
ENDED: Final = "ended"
FOREVER: Final = (1 << 63) - 1
_MAX_DEVICE: Final = 64

LookAgain = Callable[[Sheets, str, str, int, int], None]
"""Called with (sheets, node, device, from_ms, to_ms): whose those readings are has changed.

Whoever keeps readings asks ``joins.patient_at`` again for each of them.
"""


class Binding(Sheet, frozen=True, kw_only=True):
    """A device on a patient for the half-open span [from_ms, to_ms)."""

    SHEET: ClassVar[str] = "binding"

    id: str
    node: str
    """The clinic; two of them may name their devices alike."""
    device: str
    patient: str
    from_ms: int
    to_ms: int | None = None
    """None while they wear it."""
    bound_by: By
    released_by: By | None = None
    why: str = ""

    def index(self) -> Index:
        state = OPEN if self.to_ms is None else ENDED
        return Index(self.id, self.patient, state, self.from_ms)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        return (("device", f"{self.node}/{self.device}"),)

    @property
    def end_ms(self) -> int:
        """First millisecond that it does not cover."""
        return FOREVER if self.to_ms is None else self.to_ms

    def covers(self, at_ms: int) -> bool:
        """Whether the patient wore it then."""
        return self.from_ms <= at_ms < self.end_ms


class DeviceBound(Body, frozen=True):
    """From then on the patient wears the device."""

    id: str
    device: str
    patient: str
    from_ms: int
    by: By


class DeviceReleased(Body, frozen=True):
    """They wore it until then: an end, or an earlier end than was said before."""

    id: str
    to_ms: int
    by: By
    why: str = ""


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "device.bound": {1: DeviceBound},
    "device.released": {1: DeviceReleased},
}


def of_device(sheets: Sheets, node: str, device: str) -> list[Binding]:
    """Every binding of a clinic's device, the newest first."""
    return sheets.find_token(Binding, "device", f"{node}/{device}")[::-1]


def of_patient(sheets: Sheets, patient: str) -> list[Binding]:
    """Every binding of a patient, the newest first."""
    return sheets.find(Binding, owner=patient, newest=True)


def worn_by(sheets: Sheets, node: str, device: str, at_ms: int) -> Binding | None:
    """The binding in force at a time; bindings do not overlap, so there is one at most."""
    return next((b for b in of_device(sheets, node, device) if b.covers(at_ms)), None)


def bind(sheets: Sheets, body: DeviceBound, again: LookAgain, node: str) -> None:
    """The patient wears it from then on. PatientError ``device-bound`` if somebody else does."""
    if not 0 < len(body.device) <= _MAX_DEVICE or not body.device.isprintable():
        raise PatientError(f"a device's id has 1 to {_MAX_DEVICE} signs", code="device-form")
    patient = known_patient(sheets, body.patient)
    if patient.node != node:
        raise PatientError("a box binds to patients of its own clinic", code="patient-foreign")
    if sheets.get(Binding, body.id) is not None:
        raise PatientError("this binding is known already", code="binding-known")
    for other in of_device(sheets, node, body.device):
        if other.to_ms is None:
            raise PatientError(
                "the device is on a patient: release it there first", code="device-bound"
            )
        if other.to_ms > max(body.from_ms, other.from_ms):  # an empty span is in nobody's way
            raise PatientError("the device was on a patient then", code="binding-overlap")
    sheets.put(
        Binding(
            id=body.id,
            node=node,
            device=body.device,
            patient=body.patient,
            from_ms=body.from_ms,
            bound_by=body.by,
        )
    )
    again(sheets, node, body.device, body.from_ms, FOREVER)


def release(sheets: Sheets, body: DeviceReleased, again: LookAgain, node: str) -> None:
    """They wore it until then; an ended span only ever gets shorter."""
    binding = sheets.get(Binding, body.id)
    if binding is None:
        raise PatientError("there is no such binding", code="binding-unknown")
    if binding.node != node:
        raise PatientError("a box releases devices of its own clinic", code="patient-foreign")
    if not binding.from_ms <= body.to_ms <= binding.end_ms:
        raise PatientError(
            "a binding ends after it began, and is never made longer", code="binding-end"
        )
    ended = msgspec.structs.replace(
        binding, to_ms=body.to_ms, released_by=body.by, why=body.why or binding.why
    )
    sheets.put(ended)
    again(sheets, node, binding.device, body.to_ms, binding.end_ms)
