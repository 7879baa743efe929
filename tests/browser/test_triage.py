"""Triage on real programs: vitals in, a suggestion, a named decision, and the expert at the hub."""

from typing import Any

import psutil
import pytest
from playwright.sync_api import expect

from lab import wait_until
from lianzhen_protocol.accounts import Role
from support.browser import Pages, Site, assert_clean
from support.consoles import Person

ILL = {
    "respiration": 26,
    "spo2": 91,
    "oxygen": 3,
    "systolic": 96,
    "diastolic": 60,
    "pulse": 122,
    "consciousness": "A",
    "temperature": 38.9,
}
WELL = ILL | {"respiration": 16, "spo2": 97, "oxygen": 0, "systolic": 124, "pulse": 72} | {
    "temperature": 36.8
}  # fmt: skip


@pytest.fixture(scope="module")
def nurse(site: Site) -> Person:
    return site.clinic.of(Role.NURSE)


def registered(nurse: Person, name: str, **more: object) -> str:
    """A patient of this clinic."""
    details = {"name": name, "sex": "F", "birth_date": "1950-05-05"} | more
    reply = nurse.caller.post("/patients", details)
    assert reply.status == 200, reply
    return str(reply.body["id"])


def measure(nurse: Person, patient: str, signs: dict[str, Any]) -> None:
    reply = nurse.caller.post(f"/patients/{patient}/vitals", signs)
    assert reply.status == 200, reply


def shown(nurse: Person, patient: str) -> dict[str, Any]:
    """What the clinic's page of triage is made of."""
    reply = nurse.caller.get(f"/patients/{patient}/triage")
    assert reply.status == 200, reply
    return dict(reply.body)


def suggested(nurse: Person, patient: str) -> dict[str, Any]:
    """The newest suggestion, which comes by itself, as does the score of a model that was away."""

    def whole() -> bool:
        newest = shown(nurse, patient)["newest"]
        return newest is not None and not away(newest["suggested"]["forecast"])

    wait_until("a suggestion", whole)
    return dict(shown(nurse, patient)["newest"]["suggested"])


def away(forecast: dict[str, Any] | None) -> bool:
    """The triage process did not answer."""
    return any(each["code"] == "model-away" for each in (forecast or {}).get("silence", ()))


@pytest.fixture(scope="module")
def ill(nurse: Person) -> str:
    """Somebody very ill, whose vitals a nurse has typed in."""
    patient = registered(nurse, "赵分诊")
    measure(nurse, patient, ILL)
    suggested(nurse, patient)
    return patient


def test_vitals_bring_a_suggestion_with_all_that_it_rests_on(nurse: Person, ill: str) -> None:
    found = suggested(nurse, ill)
    assert found["news2"]["total"] == 13
    assert found["acuity"]["level"] == 2
    assert {reason["code"] for reason in found["acuity"]["reasons"]} >= {"news2-high"}
    assert found["forecast"]["probability"] > found["forecast"]["threshold"]
    assert len(found["forecast"]["sha256"]) == 64
    assert len(found["seen"]) == 7


@pytest.mark.parametrize(("size", "language"), [("desktop", "en"), ("phone", "zh-CN")])
def test_the_suggestion_as_the_clinic_sees_it(
    clinic_page: Pages, ill: str, size: str, language: str
) -> None:
    page = clinic_page(Role.NURSE, f"/patients/{ill}/triage", size, language)
    words = "这是建议，不是诊断" if language == "zh-CN" else "A suggestion, not a diagnosis"
    expect(page.get_by_text(words)).to_be_visible()
    expect(
        page.get_by_text("Ⅱ级 危重" if language == "zh-CN" else "II urgent").first
    ).to_be_visible()
    assert_clean(page)


def test_a_killed_model_is_done_without_and_comes_back(site: Site, nurse: Person, ill: str) -> None:
    (process,) = [
        child
        for child in psutil.Process(site.box.pid).children(recursive=True)
        if child.cmdline()[-1:] == ["triage"]
    ]
    process.kill()
    assert nurse.caller.post(f"/patients/{ill}/triage").status == 200
    found = shown(nurse, ill)["newest"]["suggested"]
    assert away(found["forecast"])
    assert found["acuity"]["level"] == 2

    def back() -> bool:
        nurse.caller.post(f"/patients/{ill}/triage")
        return shown(nurse, ill)["newest"]["suggested"]["forecast"]["probability"] is not None

    wait_until("the model is back", back)


@pytest.mark.parametrize(
    ("more", "exempt"),
    [
        ({"birth_date": "2019-05-05"}, "under-16"),
        ({"birth_date": "1996-05-05", "pregnant": True}, "pregnant"),
    ],
)
def test_who_is_not_scored_is_told_why(
    clinic_page: Pages, nurse: Person, more: dict[str, object], exempt: str
) -> None:
    patient = registered(nurse, f"钱{exempt[:5]}", **more)
    measure(nurse, patient, ILL)
    assert suggested(nurse, patient)["exempt"] == exempt
    page = clinic_page(Role.NURSE, f"/patients/{patient}/triage", "phone")
    expect(page.get_by_text("NEWS2和模型均不适用")).to_be_visible()
    assert_clean(page)


def test_a_gap_has_no_level_and_says_what_to_measure(clinic_page: Pages, nurse: Person) -> None:
    patient = registered(nurse, "孙未测")
    measure(nurse, patient, {"pulse": 72, "systolic": 124, "temperature": 36.8, "spo2": 97})
    found = suggested(nurse, patient)
    assert found["acuity"]["level"] is None
    assert found["news2"]["total"] is None
    page = clinic_page(Role.NURSE, f"/patients/{patient}/triage")
    expect(page.get_by_text("请测量：呼吸、吸氧、意识")).to_be_visible()
    assert_clean(page)


def test_somebody_well_is_accepted_with_one_click(clinic_page: Pages, nurse: Person) -> None:
    patient = registered(nurse, "李平安")
    measure(nurse, patient, WELL)
    suggested(nurse, patient)
    page = clinic_page(Role.NURSE, f"/patients/{patient}/triage")
    page.get_by_role("button", name="采纳Ⅳ级 非急症").click()
    page.wait_for_url(f"**/patients/{patient}")
    decided = shown(nurse, patient)["newest"]["decided"]
    assert (decided["verdict"], decided["level"], decided["by"]["account"]) == (
        *("accepted", 4, nurse.id),
    )


def test_an_override_by_name_reaches_the_expert_at_the_hub(
    site: Site, clinic_page: Pages, hub_page: Pages, nurse: Person
) -> None:
    patient = registered(nurse, "周改判")
    measure(nurse, patient, ILL)
    suggested(nurse, patient)
    page = clinic_page(Role.DOCTOR, f"/patients/{patient}/triage", "phone")
    page.get_by_text("更改分级").first.click()
    page.get_by_label("Ⅰ级 濒危").check()
    page.get_by_label("理由").first.fill("大汗淋漓, 疑似休克")
    assert_clean(page)
    page.get_by_role("button", name="确认更改").click()
    page.wait_for_url(f"**/patients/{patient}")
    decided = shown(nurse, patient)["newest"]["decided"]
    assert (decided["verdict"], decided["level"]) == ("overridden", 1)
    case = taken(site, patient)
    expert = site.centre.of(Role.EXPERT).caller

    def there() -> bool:
        found = expert.get(f"/cases/{case}/triage").body["decided"]
        return found is not None and found["why"] == "大汗淋漓, 疑似休克"

    wait_until("the decision is at the hub", there)
    seen = expert.get(f"/cases/{case}/triage").body
    assert seen["newest"]["suggested"]["news2"]["total"] == 13
    assert seen["decided"]["by"]["account"] == site.clinic.of(Role.DOCTOR).id
    for item in ("item", "decision_item"):
        wait_until(
            f"the clinic learns who saw {item}",
            lambda item=item: shown(nurse, patient)[item]["state"] == "seen",  # type: ignore[misc]
        )
    looked_at = hub_page(Role.EXPERT, f"/cases/{case}")
    expect(looked_at.get_by_text("大汗淋漓, 疑似休克").first).to_be_visible()
    assert_clean(looked_at, silent=False)  # other areas' parts are their own tests'


def taken(site: Site, patient: str) -> str:
    """A doctor asks about the patient, and the hub's expert has the case."""
    doctor, expert = site.clinic.of(Role.DOCTOR), site.centre.of(Role.EXPERT)
    admin = site.centre.of(Role.ADMIN)
    profile = {"title": "chief", "departments": ["03.04"]}
    assert admin.caller.post(f"/experts/{expert.id}", profile).status == 200
    expert.caller.get("/inbox")
    wanted = {
        "complaint": "发热气促",
        "department": "03.04",
        "ask": True,
        "consent": True,
        "consent_given_by": "周改判",
    }
    (draft,) = [
        row["id"]
        for row in doctor.caller.get(f"/patients/{patient}/consultations").body["board"]["open"]
    ]
    reply = doctor.caller.post(f"/consultations/{draft}", wanted)
    assert reply.status == 200, reply

    def placed() -> bool:
        inbox = expert.caller.get("/inbox").body["inbox"]
        return any(row["id"] == draft for row in inbox["asked"])

    wait_until("the expert has the case", placed)
    return str(draft)
