"""One consultation from the ultrasound to the money, done from outside.

Everything here goes through doors that a person or a device has: consoles over HTTPS, DICOM, MQTT,
IPP, the two command lines. Each stage leaves what it learnt in ``Story`` for the next, and says in
one line what it saw at the far end.
"""

import hashlib
import ssl
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from devices import Band, Labelled, pixel_hash, scans
from expert import request_body, signed_body
from lab import BoxProgram, HubProgram, Lab, LabError, wait_until
from line import Wan
from outside import PASSWORD, Browser, Modality, Person, first_visit, second_factor
from printers import Printer

CLINIC = "青山镇卫生院"
PATIENT, ID_NUMBER, BIRTH = "赵䶮", "52030219490228011X", date(1949, 2, 28)
"""A name with a rare character, as there is one in every village."""

SLICES = 12
SCANNER = "US-ROOM1"
DEPARTMENT = "03.01"
"""Respiratory medicine."""

COMPLAINT = "咳嗽、发热三天，呼吸急促"
OPINION = {
    "findings": "右下肺斑片影，边界不清；双侧胸腔未见积液。",
    "conclusion": "社区获得性肺炎，重症待排。",
    "advice": "1. 吸氧，抗感染治疗；2. 四小时后复评，SpO₂ 低于 92 % 时转诊。",
}


@dataclass
class Story:
    """The programs and people of one telling."""

    lab: Lab
    hub: HubProgram
    box: BoxProgram
    wan: Wan
    printer: Printer
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
    wait_until("a port for modalities", modality.reaches)
    if modality.echo():
        raise LabError("a modality that nobody knows was let in")

    def waiting() -> list[str]:
        rows = nurse.get("/modalities")["others"]
        return [row["id"] for row in rows if row["title"] == SCANNER]

    seconds = wait_until("a refused modality on the page", lambda: bool(waiting()))
    nurse.post(f"/modalities/{waiting()[0]}/admit")
    wait_until("a modality that is let in", modality.echo)
    return f"{SCANNER} refused, on the page after {seconds:.1f} s, admitted by one click"


def cut_line(story: Story) -> str:
    """The line to the hub is cut; the clinic's console goes on."""
    story.wan.cut()
    wait_until("a box that knows that it is alone", lambda: not story.box.online())
    story.at("nurse").get("/patients")
    return "no way to the hub any more; the clinic's console answers"


def restore_line(story: Story) -> str:
    """The line is back; what was kept meanwhile goes up."""
    waiting = _waiting(story)
    if not waiting:
        raise LabError("nothing waits, though the line was down")
    story.wan.restore()
    seconds = wait_until("a box that is online again", story.box.online)
    story.seen["asked"] = str(time.monotonic())
    return f"{waiting} records waited on the box; online again after {seconds:.1f} s"


def _waiting(story: Story) -> int:
    return sum(row["last"] - row["committed"] for row in story.box.status()["streams"])


def send_images(story: Story, folder: Path) -> str:
    """CT, ultrasound and a noisy series by storescu; the patient is known by two identifiers."""
    who = Labelled(PATIENT, story.seen["number"], BIRTH, "M")
    files = scans(folder, who, SLICES)
    modality = Modality(SCANNER, story.box.dicom_port)  # which sends again what nobody took
    wait_until("Success for every image", lambda: modality.send(*files))
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
    """The nurse adds what no band sees; the box suggests a level; the doctor, by name, accepts."""
    doctor, patient = story.at("doctor"), story.seen["patient"]
    by_eye = {"consciousness": "A", "oxygen": 0}
    story.at("nurse").post(f"/patients/{patient}/vitals", by_eye)
    said: dict[str, Any] = {}

    def spoken() -> bool:
        """Asked again until the model speaks too: it may just be starting."""
        doctor.post(f"/patients/{patient}/triage")
        said.update(doctor.get(f"/patients/{patient}/triage")["newest"]["suggested"])
        return said["forecast"]["probability"] is not None

    wait_until("a suggestion with the model's word", spoken)
    level, score = said["acuity"]["level"], said["news2"]["at_least"]
    decision = {"verdict": "accepted", "level": level}
    doctor.post(f"/patients/{patient}/triage/{said['suggestion_id']}", decision)
    after = doctor.get(f"/patients/{patient}/triage")["newest"]
    if after["decided"]["verdict"] != "accepted":
        raise LabError("the suggestion is not accepted")
    risk = said["forecast"]["probability"]
    return f"NEWS2 {score}, the model's risk {risk:.2f}; level {level} accepted by 周医生"


# -- the consultation


def profile(story: Story) -> str:
    """An admin says what the expert may be asked; the expert opens the inbox and so is there."""
    expert = story.people["expert"]
    wanted = {"title": "chief", "departments": [DEPARTMENT], "licence_number": "110520000012345"}
    story.at("hub admin").post(f"/experts/{expert.id}", wanted)
    story.at("expert").get("/inbox")
    return f"{expert.name}: {DEPARTMENT}, online"


def ask(story: Story) -> str:
    """The doctor opens triage's draft and asks: complaint, department, recorded consent."""
    doctor, patient = story.at("doctor"), story.seen["patient"]
    (draft,) = doctor.get(f"/patients/{patient}/consultations")["board"]["open"]
    wanted = {
        "complaint": COMPLAINT,
        "department": DEPARTMENT,
        "studies": story.studies,
        "ask": True,
        "consent": True,
        "consent_given_by": PATIENT,
    }
    story.seen["case"] = case = draft["id"]
    doctor.post(f"/consultations/{case}", wanted)
    story.seen["asked"] = str(time.monotonic())
    return f"pending as {case[:8]}…, with {len(story.studies)} studies and recorded consent"


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


# -- the opinion


def read_sheet(pdf: bytes) -> tuple[str, str]:
    """A printed sheet's text and what its QR code says, read by programs of others."""
    with tempfile.TemporaryDirectory(prefix="lz-") as folder:
        path = Path(folder) / "sheet.pdf"
        path.write_bytes(pdf)
        text = _said("pdftotext", "-layout", str(path), "-")
        _said("pdftoppm", "-r", "200", "-png", "-singlefile", str(path), str(path))
        code = _said("zbarimg", "--quiet", "--raw", f"{path}.png")
    return text, code.strip()


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()


def certify(story: Story) -> str:
    """The expert's browser makes a key that no server sees; an admin confirms whose it is."""
    expert, admin = story.people["expert"], story.at("hub admin")
    browser = expert.browser
    challenge = browser.post("/signing/challenge")["challenge"]
    asked = browser.post("/signing/request", request_body(challenge, expert.id))
    seen = {"identity_seen": True, "licence_seen": True}
    admin.post(f"/signers/requests/{asked['id']}/approve", seen)
    (held, *_) = browser.get("/signing")["signers"]["certificates"]
    return f"certificate {held['serial'][:8]}… of {held['name']}, until {_day(held['ends_ms'])}"


def sign(story: Story) -> str:
    """The expert writes, and signs with the key that only the passphrase opens."""
    expert, case = story.at("expert"), story.seen["case"]
    expert.post(f"/cases/{case}/opinion", OPINION)
    to_sign = expert.get(f"/cases/{case}/opinion/sign")["to_sign"]
    made = expert.post(f"/cases/{case}/opinion/sign", signed_body(to_sign))
    story.seen["opinion"] = made["id"]
    return f"opinion {made['id'][:8]}… signed in the expert's own browser"


def print_opinion(story: Story) -> str:
    """The box judges signature and certificate by itself, and prints; the printed code is read."""
    doctor, opinion = story.at("doctor"), story.seen["opinion"]
    wait_until(
        "an opinion at the clinic",
        lambda: doctor.ask("GET", f"/opinions/{opinion}").status == 200,
    )
    verdict = doctor.get(f"/opinions/{opinion}")["opinion"]["verdict"]
    if verdict["standing"] != "valid":
        raise LabError(f"the box does not trust the opinion: {verdict['why']}")
    before = len(story.printer.printed())
    job = doctor.post(f"/opinions/{opinion}/print", {"paper": "A4"})["id"]

    def state() -> str:
        return str(doctor.get(f"/printing/{job}")["job"]["stage"])

    wait_until("a printed opinion", lambda: state() == "printed")
    wait_until("a sheet in the tray", lambda: len(story.printer.printed()) > before)
    sheet = story.printer.printed()[-1]
    text, code = read_sheet(sheet)
    missing = [word for word in (PATIENT, "社区获得性肺炎", CLINIC) if word not in text]
    if missing:
        raise LabError(f"the printed sheet does not say {missing}")
    where = urllib.parse.urlsplit(code)
    answer = hub_browser(story).get(f"{where.path}?{where.query}")
    if answer["found"]["outcome"] != "valid":
        raise LabError(f"the printed code verifies as {answer['found']['outcome']}")
    return f"{len(sheet)} bytes of PDF on the printer; its QR code was read and is valid"


def complete(story: Story) -> str:
    """Insurance is noted, the doctor has read the opinion: the box settles in that very commit."""
    doctor, patient, case = story.at("doctor"), story.seen["patient"], story.seen["case"]
    doctor.post(f"/patients/{patient}/coverage", {"insurance": "resident"})
    doctor.post(f"/consultations/{case}/complete", {"opinion": story.seen["opinion"]})

    def posted() -> bool:
        bills = doctor.get(f"/patients/{patient}/settlement")["bills"]
        return any(bill["settlement"]["state"] == "posted" for bill in bills)

    wait_until("a posted settlement", posted)
    (bill, *_) = doctor.get(f"/patients/{patient}/settlement")["bills"]
    story.seen["claim"] = bill["settlement"]["claim"]["claim_id"]
    split = bill["settlement"]["posted"]
    fund, cash = split["fund_fen"] / 100, split["cash_fen"] / 100
    return f"posted at the hub: fund {fund:.2f} yuan, patient {cash:.2f} yuan"


# -- what holds at the end


def balance(story: Story) -> str:
    """The ledger sums to zero, and the expert's pay is in it."""
    found = story.hub.json("ledger")
    accounts = {row["id"]: row["fen"] for row in found["accounts"]}
    pay = [name for name in accounts if name.startswith("pay-payable:")]
    if not found["sound"] or found["sum_fen"] != 0 or not pay or not accounts[pay[0]]:
        raise LabError(f"the ledger does not hold: {accounts}")
    return f"{len(accounts)} accounts, sum 0; the expert's pay {abs(accounts[pay[0]]) / 100:.2f}"


def audit(story: Story) -> str:
    """Both audit logs are as they were written, by the files themselves."""
    story.hub.ask("audit", "verify")
    story.box.ask("audit", "verify")
    return "every row of both logs is as it was written"


def rest(story: Story) -> str:
    """Nothing waits, nothing is held, and nobody's name or pixels lie in the clear."""
    wait_until("a drained box", story.box.drained)
    held = story.hub.json("quarantine")
    if held:
        raise LabError(f"{len(held)} records are in quarantine: {held[0]['reason']}")
    return "the box is drained, nothing is in quarantine"
