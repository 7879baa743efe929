"""Consultation records like those that FHIR servers exchange: a bundle of some 6 KB of JSON.

Patient, encounter, complaint, six observations, a drug, and the request to an expert: the codes,
systems and references that FHIR repeats, and the ids, names, numbers, times and sentences that are
another patient's in each. Patient, encounter and request have UUIDs of their own, by which the
others refer to them. All of it is invented. They travel as the text of a record.
"""

import json
import random
import secrets
import time
from typing import Any, Final

from lianzhen_protocol import kinds
from lianzhen_protocol.identity import RecordId, uuid7
from lianzhen_protocol.records import DiagnosticNote

_FAMILY: Final = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高"
_GIVEN: Final = "伟芳娜敏静丽强磊军洋艳勇杰娟涛明超秀霞平刚桂英华玉兰梅红建国志文"
_PLACES: Final = ("红花岗区", "汇川区", "播州区", "桐梓县", "绥阳县", "正安县", "凤冈县", "湄潭县")
_COMPLAINTS: Final = (
    ("R07.4", "胸痛"), ("R05", "咳嗽"), ("R50.9", "发热"), ("I10", "原发性高血压"),
    ("E11.9", "2型糖尿病"), ("J18.9", "肺炎"), ("R51", "头痛"), ("K29.7", "胃炎"),
)  # fmt: skip
_DRUGS: Final = (
    ("C09AA02", "依那普利", 5, "mg"), ("A10BA02", "二甲双胍", 500, "mg"),
    ("C08CA01", "氨氯地平", 5, "mg"), ("J01CA04", "阿莫西林", 500, "mg"),
    ("B01AC06", "阿司匹林", 100, "mg"), ("R03AC02", "沙丁胺醇", 2, "mg"),
)  # fmt: skip
_VITALS: Final = (
    ("9279-1", "Respiratory rate", "/min", 12, 28), ("59408-5", "Oxygen saturation", "%", 88, 99),
    ("8480-6", "Systolic blood pressure", "mm[Hg]", 95, 185),
    ("8462-4", "Diastolic blood pressure", "mm[Hg]", 55, 110),
    ("8867-4", "Heart rate", "/min", 52, 128), ("8310-5", "Body temperature", "Cel", 36, 40),
)  # fmt: skip
_WORDS: Final = (
    "三天前开始", "活动后加重", "夜间明显", "伴出汗", "无恶心呕吐", "自服药物无好转", "既往体健",
    "有吸烟史二十年", "否认药物过敏", "请会诊协助诊断", "建议进一步检查", "家属要求转诊",
)  # fmt: skip


def bundle(chance: random.Random) -> dict[str, Any]:
    """One patient's consultation."""
    patient, encounter, request = (f"urn:uuid:{_uuid(chance)}" for _ in range(3))
    at = 1_795_392_000 + chance.randrange(86_400 * 30)
    code, complaint = chance.choice(_COMPLAINTS)
    entries = [
        (patient, _patient(chance)),
        (encounter, {"resourceType": "Encounter", "status": "in-progress",
                     "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
                               "code": "AMB", "display": "ambulatory"},
                     "subject": {"reference": patient}, "period": {"start": _time(at)}}),
        ("", {
            "resourceType": "Condition",
            "code": _concept("http://hl7.org/fhir/sid/icd-10", code, complaint),
            "subject": {"reference": patient}, "encounter": {"reference": encounter},
            "note": [{"text": "，".join(chance.sample(_WORDS, 5)) + "。"}]}),
        *(("", _observation(chance, row, patient, encounter, at))
          for row in _VITALS),
        *(("", _drug(drug, patient, encounter)) for drug in chance.sample(_DRUGS, 1)),
        (request, {"resourceType": "ServiceRequest", "status": "active", "intent": "order",
                   "code": _concept("http://snomed.info/sct", "11429006", "Consultation"),
                   "subject": {"reference": patient}, "encounter": {"reference": encounter},
                   "authoredOn": _time(at + 600), "priority": chance.choice(["routine", "urgent"]),
                   "note": [{"text": "，".join(chance.sample(_WORDS, 4)) + "。"}]}),
    ]  # fmt: skip
    return {
        "resourceType": "Bundle", "type": "collection", "timestamp": _time(at + 660),
        "entry": [({"fullUrl": url} if url else {}) | {"resource": it} for url, it in entries],
    }  # fmt: skip


def entry(chance: random.Random) -> tuple[RecordId, bytes]:
    """A fresh record: its id and its bytes."""
    now_ms = time.time_ns() // 1_000_000
    identity = uuid7(now_ms, secrets.token_bytes(10))
    text = json.dumps(bundle(chance), ensure_ascii=False, separators=(",", ":"))
    return identity, kinds.encode(DiagnosticNote(text=text), identity, now_ms)


def _patient(chance: random.Random) -> dict[str, Any]:
    number = f"520303{chance.randrange(1935, 2020)}{chance.randrange(101, 1229):04d}"
    return {
        "resourceType": "Patient",
        "identifier": [{"use": "official", "system": "http://www.mps.gov.cn/identity",
                        "value": f"{number}{chance.randrange(1000, 9999)}"}],
        "name": [{"text": chance.choice(_FAMILY) + "".join(chance.sample(_GIVEN, 2))}],
        "gender": chance.choice(["male", "female"]),
        "telecom": [{"system": "phone", "value": f"13{chance.randrange(10**9):09d}"}],
        "address": [{"text": f"贵州省遵义市{chance.choice(_PLACES)}{chance.randrange(1, 300)}号"}],
    }  # fmt: skip


def _observation(
    chance: random.Random, row: tuple[str, str, str, int, int], patient: str, visit: str, at: int
) -> dict[str, Any]:
    code, display, unit, low, high = row
    category = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation", "status": "final",
        "category": [_concept(category, "vital-signs", "Vital Signs")],
        "code": _concept("http://loinc.org", code, display),
        "subject": {"reference": patient}, "encounter": {"reference": visit},
        "effectiveDateTime": _time(at + chance.randrange(300)),
        "valueQuantity": {"value": round(chance.uniform(low, high), 1), "unit": unit,
                          "system": "http://unitsofmeasure.org", "code": unit},
    }  # fmt: skip


def _drug(drug: tuple[str, str, int, str], patient: str, visit: str) -> dict[str, Any]:
    code, name, dose, unit = drug
    return {
        "resourceType": "MedicationStatement", "status": "active",
        "medicationCodeableConcept": _concept("http://www.whocc.no/atc", code, name),
        "subject": {"reference": patient}, "context": {"reference": visit},
        "dosage": [{"text": f"每日一次，每次{dose}{unit}",
                    "doseAndRate": [{"doseQuantity": {"value": dose, "unit": unit}}]}],
    }  # fmt: skip


def _concept(system: str, code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def _uuid(chance: random.Random) -> str:
    found = f"{chance.getrandbits(128):032x}"
    return "-".join((found[:8], found[8:12], found[12:16], found[16:20], found[20:]))


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+08:00", time.gmtime(seconds + 8 * 3600))
