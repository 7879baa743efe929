"""One consultation from the ultrasound to the money, done from outside.

Everything here goes through doors that a person or a device has: consoles over HTTPS, DICOM, MQTT,
IPP, the two command lines. Each stage leaves what it learnt in ``Story`` for the next, and says in
one line what it saw at the far end.
"""

import hashlib
import ssl
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from devices import Band, Labelled, pixel_hash, scans
from lab import BoxProgram, HubProgram, Lab, LabError, wait_until
from line import Wan
from outside import PASSWORD, Browser, Modality, Person, first_visit, second_factor

CLINIC = "青山镇卫生院"
PATIENT, ID_NUMBER, BIRTH = "赵䶮", "52030219490228011X", date(1949, 2, 28)
"""A name with a rare character, as there is one in every village."""

SLICES = 12
SCANNER = "US-ROOM1"
DEPARTMENT = "03.01"
"""Respiratory medicine."""


@dataclass
class Story:
    """The programs and people of one telling."""

    lab: Lab
    hub: HubProgram
    box: BoxProgram
    wan: Wan
    node: str = ""
    people: dict[str, Person] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    pixels: list[str] = field(default_factory=list)
    """Hashes of the pixels that were sent."""
    studies: list[str] = field(default_factory=list)
    """What a stage has to tell later ones: ids, by name."""

    def at(self, who: str) -> Browser:
        """The browser of somebody who is signed in."""
        return self.people[who].browser


def power_on(story: Story) -> str:
    """A blank box gets the hub's claim on its setup page; its first account is made with it."""
    hub, box = story.hub, story.box
    claim = hub.ask("claim", box.box, "--clinic", CLINIC, "--text")
    story.seen["claim"] = claim
    box.start()
    browser = clinic_browser(box)
    browser.post("/setup/claim", {"claim": claim})
    wait_until("an enrolled box that is online", box.online)
    story.node = str(box.status()["node"])
    account = {"login": "chen.admin", "name": "陈院长", "password": PASSWORD, "again": PASSWORD}
    made = browser.post("/setup/account", account | {"claim": claim})
    secret = second_factor(browser)
    story.people["clinic admin"] = Person(made["id"], "陈院长", "chen.admin", browser, secret)
    return f"{story.node}, online; first account made with the claim, second factor set"


def clinic_browser(box: BoxProgram) -> Browser:
    """A PC of the clinic that took the box's CA from its setup page."""
    url = f"http://127.0.0.1:{box.setup_port}/lianzhen-box.crt"
    wait_until("a setup page", lambda: _fetch(url) is not None)
    ca = _fetch(url)
    if ca is None:
        raise LabError("the setup page is gone again")
    return Browser(f"https://127.0.0.1:{box.console_port}", ca)


def hub_browser(story: Story) -> Browser:
    """A PC that took the hub's CA from the hub, and compared it with the pin of a claim."""
    hub, blind = story.hub, ssl.create_default_context()
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    url = f"https://127.0.0.1:{hub.https_port}/enrol/v1/cacerts"
    with urllib.request.urlopen(url, timeout=5, context=blind) as answer:
        pem: bytes = answer.read()
    key = x509.load_pem_x509_certificate(pem).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if hashlib.sha256(spki).hexdigest() not in story.seen["claim"]:
        raise LabError("whoever answers there is not the hub that printed the claim")
    return Browser(f"https://127.0.0.1:{hub.console_port}", pem.decode())


def hire(story: Story) -> str:
    """Nurse and doctor at the clinic, by its admin; admin and expert at the hub."""
    admin = story.at("clinic admin")
    for who, login, name in (("nurse", "li.nurse", "李护士"), ("doctor", "zhou.doctor", "周医生")):
        wanted = {"login": login, "name": name, "roles": [who], "node": story.node}
        made = admin.post("/staff", wanted)
        story.people[who] = first_visit(clinic_browser(story.box), made, name, second=False)
    made = _by_command_line(story.hub, "gao.admin", "高主任", "admin")
    story.people["hub admin"] = first_visit(hub_browser(story), made, "高主任", second=True)
    wanted = {"login": "wang.expert", "name": "王教授", "roles": ["expert"], "node": ""}
    made = story.at("hub admin").post("/staff", wanted)
    story.people["expert"] = first_visit(hub_browser(story), made, "王教授", second=True)
    return ", ".join(f"{person.name} ({who})" for who, person in story.people.items())


def _by_command_line(hub: HubProgram, login: str, name: str, role: str) -> dict[str, str]:
    verb = ("account", "add", login, "--name", name, "--role", role)
    return {"login": login, "id": "", "password": hub.ask(*verb).split()[-1]}


def _fetch(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            content: bytes = answer.read()
    except OSError:
        return None
    return content


# -- in


def register(story: Story) -> str:
    """The nurse registers a patient by the ID card."""
    nurse = story.at("nurse")
    made = nurse.post("/patients", {"name": PATIENT, "id_number": ID_NUMBER})
    story.seen["patient"] = made["id"]
    patient = nurse.get(f"/patients/{made['id']}")["patient"]
    story.seen["number"] = patient["number"]
    if (patient["birth_date"], patient["sex"]) != (BIRTH.isoformat(), "M"):
        raise LabError("birth date and sex were not taken from the ID number")
    return f"number {patient['number']}; birth date and sex come from the ID number"


def admit_scanner(story: Story) -> str:
    """An unknown modality is refused, shown, and let in by one click."""
    nurse = story.at("nurse")
    modality = Modality(SCANNER, story.box.dicom_port)
    if modality.echo():
        raise LabError("a modality that nobody knows was let in")

    def waiting() -> list[str]:
        rows = nurse.get("/modalities")["others"]
        return [row["id"] for row in rows if row["title"] == SCANNER]

    seconds = wait_until("a refused modality on the page", lambda: bool(waiting()))
    nurse.post(f"/modalities/{waiting()[0]}/admit")
    wait_until("a modality that is let in", modality.echo)
    return f"{SCANNER} refused, on the page after {seconds:.1f} s, admitted by one click"


def send_images(story: Story, folder: Path) -> str:
    """CT, ultrasound and a noisy series by storescu; the patient is known by two identifiers."""
    who = Labelled(PATIENT, story.seen["number"], BIRTH, "M")
    files = scans(folder, who, SLICES)
    if not Modality(SCANNER, story.box.dicom_port).send(*files):
        raise LabError("storescu was not answered with Success for every image")
    story.pixels = sorted(pixel_hash(path) for path in files)
    nurse, patient = story.at("nurse"), story.seen["patient"]

    def joined() -> list[str]:
        shown = nurse.get(f"/patients/{patient}/imaging")["found"]
        return [each["study"]["id"] for each in shown if sum(1 for _ in each["images"])]

    wait_until("images on the patient's page", lambda: len(joined()) >= 3)
    story.studies = joined()
    return f"{len(files)} images acknowledged, in {len(story.studies)} studies of this patient"


def wear(story: Story) -> str:
    """A wearable is added, bound to the patient by the nurse, and publishes."""
    nurse, box = story.at("nurse"), story.box
    made = nurse.post("/wearables", {"name": "腕带 1"})
    authority = story.lab.folder / "wearables.pem"
    authority.write_bytes(nurse.download("/wearables/authority.pem"))
    who = {"number": story.seen["number"], "second": BIRTH.isoformat()}
    nurse.post("/bindings", {"device": made["id"]} | who)
    with Band(box.device_port, authority, made["id"], made["password"]) as band:
        calm = {"respiration": 16, "spo2": 97, "systolic": 128, "pulse": 82, "temperature": 36.8}
        if "stored" not in band.measure("m-1", **calm):
            raise LabError("the box did not store a reading")
        began = time.monotonic()
        band.measure("m-2", **calm | {"respiration": 26, "spo2": 90, "pulse": 118})
        wait_until("an alarm at the clinic", lambda: bool(_ringing(story)))
        seconds = time.monotonic() - began
    return f"receipt after the commit; alarm at the clinic {seconds:.1f} s after publishing"


def acknowledge(story: Story) -> str:
    """The alarm is acknowledged by name."""
    nurse = story.at("nurse")
    for alarm in _ringing(story):
        nurse.post(f"/alarms/{alarm['id']}/acknowledge", {"note": "已通知周医生"})
    wait_until("alarms that nobody needs to hear", lambda: not _ringing(story))
    (alarm, *_) = nurse.get("/alarms")["alarms"]
    name = alarm["acknowledged_by"]["name"]
    return f"acknowledged by {name}"


def _ringing(story: Story) -> list[dict[str, Any]]:
    """Alarms that nobody has acknowledged."""
    found: list[dict[str, Any]] = story.at("nurse").get("/alarms/strip")["ringing"]
    return found


def triage(story: Story) -> str:
    """The box suggests a level with its reasons; the doctor, by name, accepts it."""
    doctor, patient = story.at("doctor"), story.seen["patient"]
    doctor.post(f"/patients/{patient}/triage")
    newest = doctor.get(f"/patients/{patient}/triage")["newest"]
    said = newest["suggested"]
    level, score = said["acuity"]["level"], said["news2"]["at_least"]
    decision = {"verdict": "accepted", "level": level}
    doctor.post(f"/patients/{patient}/triage/{said['suggestion_id']}", decision)
    after = doctor.get(f"/patients/{patient}/triage")["newest"]
    if after["decided"]["verdict"] != "accepted":
        raise LabError("the suggestion is not accepted")
    model = "with" if said["forecast"] else "without"
    return f"NEWS2 at least {score}, {model} the model; level {level} accepted by 周医生"


# -- the consultation


def profile(story: Story) -> str:
    """An admin says what the expert may be asked; the expert opens the inbox and so is there."""
    expert = story.people["expert"]
    wanted = {"title": "chief", "departments": [DEPARTMENT], "licence_number": "110520000012345"}
    story.at("hub admin").post(f"/experts/{expert.id}", wanted)
    story.at("expert").get("/inbox")
    return f"{expert.name}: {DEPARTMENT}, online"


def ask(story: Story) -> str:
    """The doctor asks, with complaint, department and the patient's recorded consent."""
    doctor, patient = story.at("doctor"), story.seen["patient"]
    wanted = {
        "complaint": "咳嗽、发热三天，呼吸急促",
        "department": DEPARTMENT,
        "studies": story.studies,
        "ask": True,
        "consent": True,
        "consent_given_by": PATIENT,
    }
    made = doctor.post(f"/patients/{patient}/consultations", wanted)
    story.seen["case"] = made["id"]
    story.seen["asked"] = str(time.monotonic())
    return f"pending as {made['id'][:8]}…, with {len(story.studies)} studies and recorded consent"


def accept(story: Story) -> str:
    """The case is in the expert's inbox; the expert takes it and begins."""
    expert, case = story.at("expert"), story.seen["case"]

    def listed() -> bool:
        inbox = expert.get("/inbox")["inbox"]
        return any(row["id"] == case for part in ("asked", "open") for row in inbox[part])

    wait_until("a case in the inbox", listed)
    seconds = time.monotonic() - float(story.seen["asked"])
    expert.post(f"/cases/{case}/accept")
    expert.post(f"/cases/{case}/start")
    return f"in the inbox {seconds:.1f} s after it was asked; accepted and begun"


def look(story: Story) -> str:
    """The expert sees vitals, triage and images; the pixels are those that the scanner sent."""
    expert, case = story.at("expert"), story.seen["case"]

    def arrived() -> list[tuple[str, str]]:
        studies = expert.get(f"/cases/{case}/imaging")["found"]
        images = [(one["study"]["id"], image["id"], image["state"])
                  for one in studies for image in one["images"]]  # fmt: skip
        return [(study, image) for study, image, state in images if state == "safe"]

    wait_until("every image at the hub", lambda: len(arrived()) >= len(story.pixels))
    found = sorted(
        pixel_hash(expert.download(f"/studies/{study}/{image}/original"))
        for study, image in arrived()
    )
    if found != story.pixels:
        raise LabError("the pixels at the hub are not those that the scanner sent")
    bed = expert.get(f"/cases/{case}/vitals")["bed"]
    suggestion = expert.get(f"/cases/{case}/triage")["newest"]
    if not bed or not suggestion:
        raise LabError("vitals or triage are missing on the case")
    return f"{len(found)} images, every pixel as it was sent; vitals and triage on the case"
