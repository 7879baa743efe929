"""How soon an expert sees a study: previews over a bad line, until they are on the screen.

A CT of 300 slices is sent to a box by dcmtk's storescu. Between box and hub is real TCP of the
kernel over a link in user space (tests/bench/common/netline.py). At the hub an expert's browser,
Debian's Chromium, opens the viewer as soon as the hub knows of the study. Seconds are from the
last C-STORE's Success until a picture is painted there, and until those of all slices are there.

Beside it, over the same line in the same run: Orthanc pushes the same study to another Orthanc,
which renders its first image for whoever asks. Neither TLS nor a browser is in its way. Needs
root, for the two networks.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS.parent / "deploy")]

from playwright.sync_api import Page, Response, sync_playwright  # noqa: E402

from bench.common.measure import machine, syncs_per_second  # noqa: E402
from bench.common.netline import HUB, NetLine, Quality  # noqa: E402
from bench.common.study import study  # noqa: E402
from bench.peers.peer import Server, program  # noqa: E402
from lab import BoxProgram, HubProgram, Lab, LabError, free_ports, lab, wait_until  # noqa: E402
from lianzhen_protocol.accounts import Role  # noqa: E402
from support.browser import launch  # noqa: E402
from support.consoles import Person, hub_people  # noqa: E402
from support.modality import DCMTK  # noqa: E402

_FIRST_S, _ALL_S = 5.0, 30.0
"""What is promised."""


_PAINTED = """async () => {
  const picture = document.querySelector('lz-viewer img.first');
  if (picture) await picture.decode().catch(() => undefined);
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
"""A picture of the server, or the engine's, is on the screen."""


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./do bench preview", description=__doc__)
    add = parser.add_argument
    add("--slices", type=int, default=300, help="of 512 x 512 (%(default)s)")
    add("--kbit", type=float, default=2000.0, help="the line's rate (%(default)s)")
    add("--rtt-ms", type=float, default=80.0, help="the empty line's round trip (%(default)s)")
    add("--queue-kb", type=int, default=64, help="the slowest link's queue (%(default)s)")
    add("--congestion", default="reno", help="TCP's congestion control (%(default)s)")
    add("--peer-s", type=float, default=30.0, help="so long the peer pushes (%(default)s)")
    add("--no-peer", action="store_true")
    return parser.parse_args(arguments)


class Sending:
    """A modality at the box: a process, and when it was told Success for the last time."""

    def __init__(self, line: NetLine, port: int, files: Sequence[Path]) -> None:
        command = [str(DCMTK / "storescu"), "-aet", "CT1", "127.0.0.1", str(port)]
        environment = os.environ | {"TCP_NODELAY": "1"}
        self.began = time.monotonic()
        self.ended = 0.0
        with line.at_the_box():
            self._process = subprocess.Popen([*command, *map(str, files)], env=environment)
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        if self._process.wait() == 0:
            self.ended = time.monotonic()

    def done(self) -> float:
        """When the last image was taken; LabError if one was not."""
        self._thread.join(600)
        if not self.ended:
            raise LabError("storescu failed")
        return self.ended


def _joined(made: Lab, line: NetLine) -> tuple[HubProgram, BoxProgram]:
    """A hub and a box, each in its own network."""
    hub = made.hub(listen="0.0.0.0").start().wait()
    (dicom,) = free_ports(1)
    box = made.box("BOX-1", dicom_port=dicom).start()
    box.enrol(hub)
    box.ask("modalities", "--admit", "CT1@127.0.0.1")
    box.stop()
    for path in Path(box.state, "identity").glob("*/identity.json"):
        path.write_text(path.read_text().replace("127.0.0.1", HUB))
    with line.at_the_box():
        box.start()
    wait_until("a box that is online", box.online)
    return hub, box


class Screen:
    """The expert's browser, and when which picture was on it."""

    def __init__(self, page: Page, reader: Person, port: int) -> None:
        self._page, self._reader, self._port = page, reader, port
        self.fetched: dict[str, float] = {}
        self.bytes = 0
        self._study = ""
        self._ids: dict[str, str] = {}
        """Keys of images by SOP Instance UID."""
        self.known = 0.0
        """When the hub knew of the study."""
        page.on("response", self._came)

    def _came(self, answer: Response) -> None:
        if answer.status != 200:
            return
        if "/preview" in answer.url:
            self.fetched.setdefault(answer.url.split("/")[-2], time.monotonic())
            self.bytes += int(answer.headers.get("content-length", 0))
        elif "/frames/" in answer.url:  # as it was sent: then its preview is asked for no more
            uid = answer.url.split("/instances/")[1].split("/")[0]
            self.fetched.setdefault(self._ids.get(uid, uid), time.monotonic())

    def first(self) -> float:
        """Wait until the hub knows of a study, open it, and until the viewer has painted."""
        rows: list[dict[str, Any]] = []
        while not rows:
            rows = self._reader.caller.get("/studies").body["rows"]
        address = f"https://127.0.0.1:{self._port}"
        cookies = self._reader.caller.cookies
        self._page.context.add_cookies(
            [{"name": name, "value": text, "url": address} for name, text in cookies.items()]
        )
        self.known = time.monotonic()
        self._study = rows[0]["id"]
        self._page.goto(f"{address}/studies/{rows[0]['id']}")
        picture = self._page.locator("lz-viewer img.first, .pane[data-phase=ready] canvas").first
        picture.wait_for(state="attached", timeout=300_000)
        self._page.evaluate(_PAINTED)
        return time.monotonic()

    def all(self, count: int) -> float:
        """Until the pictures of all slices are in the browser."""
        began = time.monotonic()
        while len(self._ids) < count:
            found = self._reader.caller.get(f"/studies/{self._study}/series").body["study"]
            pictures = [one for series in found["series"] for one in series["pictures"]]
            self._ids = {one["uid"]: one["id"] for one in pictures}
        for uid, name in self._ids.items():
            if (at := self.fetched.pop(uid, None)) is not None:
                self.fetched[name] = min(at, self.fetched.get(name, at))
        while len(self.fetched) < count:
            self._page.wait_for_timeout(50)
            if time.monotonic() - began > 400:
                raise LabError(f"only {len(self.fetched)} of {count} previews came")
        return max(self.fetched.values())


def _ours(made: Lab, line: NetLine, files: Sequence[Path]) -> dict[str, Any]:
    hub, box = _joined(made, line)
    people = hub_people(hub)
    reader = people.of(Role.ADMIN)  # the same page and pictures as an expert's on the case
    with sync_playwright() as driver:
        browser = launch(driver)
        page = browser.new_page(ignore_https_errors=True)
        page.goto(f"https://127.0.0.1:{people.port}/login")  # the browser itself is warm
        screen, before = Screen(page, reader, people.port), line.up_way.passed
        sending = Sending(line, box.dicom_port, files)
        first = screen.first()
        ended = sending.done()
        whole = screen.all(len(files))
        carried = line.up_way.passed - before
        browser.close()
    return {
        "first_s": round(first - ended, 2),
        "all_s": round(whole - ended, 2),
        "known_s": round(screen.known - ended, 2),
        "first_preview_s": round(min(screen.fetched.values()) - ended, 2),
        "sending_s": round(ended - sending.began, 2),
        "previews_mb": round(screen.bytes / 1e6, 2),
        "up_mb": round(carried / 1e6, 2),
    }


# -- the peer


class Orthanc:
    """Debian's, with what it brings: plain HTTP, and nobody asks who comes."""

    def __init__(self, folder: Path, port: int, peer: str = "") -> None:
        folder.mkdir()
        self._port = port
        configuration = {
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "store"),
            "DicomServerEnabled": False,
            "HttpPort": port,
            "RemoteAccessAllowed": True,
            "AuthenticationEnabled": False,
            "OrthancPeers": {"hub": [peer]} if peer else {},
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration))
        command = (program("Orthanc") or "Orthanc", "orthanc.json")
        self.server = Server(command, folder, port)

    def ask(self, method: str, target: str, body: bytes | None = None) -> bytes:
        """One request to its REST interface."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{target}", data=body, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())

    def images(self) -> list[str]:
        """Names of all that it has."""
        return list(json.loads(self.ask("GET", "/instances")))


def _peer(folder: Path, line: NetLine, files: Sequence[Path], seconds: float) -> dict[str, Any]:
    """From the moment that the clinic's has the study."""
    near, far = free_ports(2)
    hub = Orthanc(folder / "peer-hub", far)
    with line.at_the_box():
        box = Orthanc(folder / "peer-box", near, f"http://{HUB}:{far}/")
        for file in files:
            box.ask("POST", "/instances", file.read_bytes())
        (name,) = json.loads(box.ask("GET", "/studies"))
        began = time.monotonic()
        wanted = json.dumps({"Resources": [name], "Asynchronous": True}).encode()
        box.ask("POST", "/peers/hub/store", wanted)
    try:
        first, came = 0.0, 0
        while time.monotonic() - began < seconds:
            known = hub.images()
            if known and not first:
                hub.ask("GET", f"/instances/{known[0]}/preview")
                first = time.monotonic() - began
            came = len(known)
            time.sleep(0.02)
        took = time.monotonic() - began
    finally:
        box.server.end()
        hub.server.end()
    if not came:
        raise LabError(f"no image of the peer's came in {seconds:.0f} s")
    return {
        "first_s": round(first, 2),
        "all_s": round(took / came * len(files), 1),
        "came": came,
        "in_s": round(took, 1),
        "all_s_is": "reckoned from what came in so long",
    }


def _table(found: dict[str, Any], peers: dict[str, Any]) -> list[list[str]]:
    rows = [("**ours**", found), *peers.items()]
    return [
        ["previews to the screen", "first image s", "all images s"],
        *([name, str(row["first_s"]), str(row["all_s"])] for name, row in rows),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and the result as the last line. 1 if a promise is not kept."""
    options = _options(arguments)
    if os.geteuid() != 0:
        sys.exit("bench preview: two networks of its own need root")
    quality = Quality(options.kbit * 1000, options.rtt_ms / 2000, 0.0, options.queue_kb << 10)
    line = NetLine(quality, options.congestion, 1)
    with contextlib.closing(line), lab() as made:
        (folder := made.folder / "study").mkdir()
        files = study(folder, options.slices)
        syncs = [syncs_per_second(made.folder)]
        found = _ours(made, line, files)
        print(f"ours: {found}", flush=True)
        peers: dict[str, Any] = {}
        if not options.no_peer:
            made.__exit__()
            made.folder.mkdir(exist_ok=True)
            peers["orthanc_push"] = _peer(made.folder, line, files, options.peer_s)
            print(f"orthanc: {peers['orthanc_push']}", flush=True)
        result = {
            "bench": "preview",
            "what": f"{options.slices} CT slices of 512 x 512; the clinic's line:"
            f" {options.kbit:.0f} kbit/s, {options.rtt_ms:.0f} ms around, a queue of"
            f" {options.queue_kb} KB, TCP {options.congestion}; storescu with TCP_NODELAY=1."
            " Seconds after the last C-STORE; a negative one was before it",
            "ours": found,
            "peers": peers,
            "table": _table(found, peers),
            "ratios": {
                f"{name}, {what}": round(row[f"{key}_s"] / max(found[f"{key}_s"], 0.1), 1)
                for name, row in peers.items()
                for key, what in (("first", "first image"), ("all", "all images"))
            },
            "machine": machine(made.folder, syncs),
            "not_measured": ["a line to the expert that is bad as well", "real scanners' noise"],
        }
    print(json.dumps(result))
    return 0 if found["first_s"] <= _FIRST_S and found["all_s"] <= _ALL_S else 1


if __name__ == "__main__":
    sys.exit(main())
