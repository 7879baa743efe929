"""One consultation from the ultrasound to the money, done from outside.

Everything here goes through doors that a person or a device has: consoles over HTTPS, DICOM, MQTT,
IPP, the two command lines. Each stage leaves what it learnt in ``Story`` for the next, and says in
one line what it saw at the far end.
"""

import hashlib
import ssl
import urllib.request
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lab import BoxProgram, HubProgram, Lab, LabError, wait_until
from line import Wan
from outside import PASSWORD, Browser, Person, first_visit, second_factor

CLINIC = "青山镇卫生院"


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
