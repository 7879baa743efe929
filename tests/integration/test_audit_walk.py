"""Every declared change of patient data, done over HTTP at a real box, leaves its audit row."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import wait_until
from lianzhen_edge.box import Box
from lianzhen_edge.clinic.app import Clinic
from lianzhen_edge.settings import Settings as BoxSettings
from lianzhen_hub.consoles.app import HubConsole
from lianzhen_hub.hub import Hub
from lianzhen_hub.settings import Settings as HubSettings
from lianzhen_protocol.accounts import Role
from lianzhen_runtime.web.noting import NOBODYS
from support.browser import Site
from support.patients import an_id_number

ELSEWHERE = {
    "/bindings": "tests/unit/people",
    "/bindings/{id}/release": "tests/unit/people",
    "/cases/{id}/accept": "tests/unit/audit/test_acts.py",
    "/cases/{id}/decline": "tests/unit/audit/test_acts.py",
    "/cases/{id}/opinion": "tests/unit/audit/test_acts.py",
    "/cases/{id}/opinion/sign": "tests/unit/audit/test_acts.py",
    "/cases/{id}/start": "tests/unit/audit/test_acts.py",
    "/consultations/{id}/complete": "tests/unit/audit/test_acts.py",
    "/consultations/{id}/settlement": "tests/unit/money/test_clinic_pages.py",
    "/opinions/{id}/print": "tests/integration/test_printing.py",
    "/printing/{id}/again": "tests/integration/test_printing.py",
    "/settlements/{id}/reverse": "tests/unit/hub_money/test_settlement.py",
    "/studies/{id}/teaching": "tests/integration/test_images.py",
    "/studies/{id}/{image}/key": "tests/integration/test_images.py",
    "/tray/{id}/join": "tests/unit/people",
    "/tray/{id}/unjoin": "tests/unit/people",
}
"""Changes that need a device, an image or a signature first, and where their rows are tested."""


NOTHING_OF_A_PATIENT = {"/printing/{id}/cancel"}
"""A job of the printer ends; what was noted is that it was asked for."""


class Walk:
    """Does things as a doctor and looks which rows came."""

    def __init__(self, site: Site) -> None:
        self._doctor = site.clinic.of(Role.DOCTOR)
        self._admin = site.clinic.of(Role.ADMIN).caller
        self.walked: set[str] = set()

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._admin.get("/audit").body["rows"]
        return found

    def ringing(self, patient: str) -> str:
        """The alarm that so sick a patient sets off."""

        def mine() -> list[dict[str, Any]]:
            alarms = self._doctor.caller.get("/alarms").body["alarms"]
            return [alarm for alarm in alarms if alarm["patient_id"] == patient]

        wait_until("it rings", lambda: bool(mine()))
        return str(mine()[0]["id"])

    def do(self, path: str, value: object, action: str, **ids: str) -> dict[str, Any]:
        """POST, and an audit row of this action by this doctor is there when it is answered."""
        before = self.rows()[0]["seq"]
        reply = self._doctor.caller.post(path.format(**ids), value)
        assert reply.status == 200, (path, reply)
        new = [row for row in self.rows() if row["seq"] > before]
        said = {row["action"] for row in new if row["actor"] == self._doctor.id}
        assert action in said, (path, new)
        self.walked.add(path)
        assert isinstance(reply.body, dict)
        return reply.body


@pytest.fixture(scope="module")
def walk(site: Site) -> Walk:
    made = Walk(site)
    number = an_id_number(int(time.time()) % 900)
    zhao = {"name": "赵六", "id_number": number}
    patient = made.do("/patients", zhao, "create")
    one = patient["id"]
    made.do("/patients/check", {"id_number": number}, "read")
    corrected = zhao | {"name": "赵陆", "why": "写错"}
    made.do("/patients/{id}/correct", corrected, "change", id=one)
    other = made.do("/patients/temporary", {}, "create")["id"]
    known = {"number": patient["number"], "second": "赵陆", "why": "家属来了"}
    made.do("/patients/{id}/link", known, "join", id=other)
    made.do("/patients/{id}/unlink", {"why": "认错"}, "sever", id=other)
    made.do("/patients/{id}/activation", {}, "account-made", id=one)
    made.do("/patients/{id}/coverage", {"insurance": "resident"}, "change", id=one)
    vitals = {"respiration": 40, "spo2": 70, "pulse": 170, "systolic": 70, "temperature": 36.8}
    made.do("/patients/{id}/vitals", vitals, "create", id=one)
    made.do("/alarms/{id}/acknowledge", {"note": "已吸氧"}, "decide", id=made.ringing(one))
    made.do("/patients/{id}/triage/scale", {"scale": 1, "why": "x"}, "change", id=one)
    suggested = made.do("/patients/{id}/triage", {}, "create", id=one)
    decision = {"verdict": "overridden", "level": 3, "why": "看上去好"}
    made.do("/patients/{id}/triage/{suggestion}", decision, "decide", id=one,
            suggestion=suggested["id"])  # fmt: skip
    request = {"complaint": "胸痛", "department": "03.04"}
    made.do("/patients/{id}/consultations", request, "create", id=other)
    case = made.do("/patients/{id}/consultations", request, "change", id=one)["id"]  # triage's
    made.do("/consultations/{id}", request | {"complaint": "胸闷"}, "change", id=case)
    made.do("/consultations/{id}/cancel", {"reason": "好转"}, "decide", id=case)
    ordered = {"modality": "US", "procedure": "腹部超声"}
    order = made.do("/patients/{id}/orders", ordered, "create", id=one)["id"]
    made.do("/orders/{id}/cancel", {"why": "已在外院做过"}, "remove", id=order)
    return made


def changes(make: Callable[[], Any]) -> set[str]:
    """Paths of a console at which something of a patient's is done."""
    return {
        route.path
        for route in make().console.routes
        if route.method != "GET" and route.path.strip("/").partition("/")[0] not in NOBODYS
    }


def test_every_change_of_a_patients_data_leaves_its_row(walk: Walk, tmp_path: Path) -> None:
    declared = changes(lambda: Clinic(Box(BoxSettings(state=str(tmp_path / "box")), ())))
    declared |= changes(lambda: HubConsole(Hub(HubSettings(state=str(tmp_path / "hub")))))
    assert declared - walk.walked - set(ELSEWHERE) == NOTHING_OF_A_PATIENT
    assert walk.walked - declared == set()
    assert set(ELSEWHERE) - declared == set()


def test_where_it_is_said_to_be_tested_it_is() -> None:
    root = Path(__file__).parents[2]
    for place in set(ELSEWHERE.values()):
        files = [root / place] if place.endswith(".py") else list((root / place).glob("*.py"))
        assert any("audit" in file.read_text(encoding="utf-8") for file in files), place
