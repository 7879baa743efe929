"""A hub, a box and everything between, on which schedules of faults are played, one after another.

The fleet lives on from schedule to schedule. After each it is left alone until it is at rest; then
all that was ever promised is looked for in the hub's own tables: lost, doubled, out of order, or
called safe too early is a failure that names the seed.
"""

import contextlib
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import psutil
from pydicom import dcmread
from sqlalchemy import text

from lab import Lab, LabError, Postgres, Program, ask, free_ports, lab, wait_until
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.imaging import study_key
from line import Line

from . import mortal
from .clinic_of_faults import POISON, REST_SECONDS, Clinic, Failure
from .consoles import Person, clinic_people, hub_people
from .faults import (
    BROKER,
    CORE,
    DATABASE,
    HUB,
    SCP,
    Schedule,
    Step,
)
from .kills import kill_postgres
from .lab_fixtures import enrolled_pair, rows
from .meddler import Keys, Meddler
from .modality import pixels
from .strikes import Strike

STEP_SECONDS: Final = 8.0
"""So long a fault may take to strike; then it is called off, and counted as missed."""

LOOK_SECONDS: Final = 0.25
_MORTAL: Final = str(Path(mortal.__file__))


class Fleet:
    """Made by ``fleet``; ``play`` a schedule on it."""

    def __init__(self, place: Lab, postgres: Postgres | None) -> None:
        (dicom, mqtt) = free_ports(2)
        self.struck = self.missed = 0
        self._postgres = postgres
        url = postgres.url if postgres else None
        self.pair = enrolled_pair(place, url, dicom_port=dicom)
        hub, box = self.pair.hub, self.pair.box
        self.upload = Line(hub.https_port)
        box.stop()
        hub.stop()
        (home,) = Path(box.state, "identity").glob("*/identity.json")
        about = {"mqtt_port": mqtt, "hub": f"https://127.0.0.1:{self.upload.port}"}
        home.write_text(json.dumps(json.loads(home.read_bytes()) | about))
        self._keys = Keys(
            hub.state / "broker" / "server.pem",
            home.with_name("certificate.pem"),
            home.with_name("key.pem"),
        )
        self.meddler = Meddler(hub.mqtt_port, mqtt, self._keys)
        self.slates = {
            CORE: self._mortal(box),
            HUB: self._mortal(hub),
            SCP: mortal.Slate(box.folder / f"slate{mortal.CHILD}"),
        }
        hub.start().wait()
        box.start().wait()
        box.ask("modalities", "--admit", "CT1@127.0.0.1")
        self._nurse: Person = clinic_people(box).of(Role.NURSE)
        self.clinic = Clinic(box, self._nurse, place.folder)
        self.promises = self.clinic.promises
        self._admin: Person = hub_people(hub).of(Role.ADMIN)
        self._look_at = 0.0
        wait_until("a box that is online", box.online)

    @staticmethod
    def _mortal(program: Program) -> mortal.Slate:
        path = program.folder / "slate"
        program.prefix = (sys.executable, _MORTAL, str(path))
        return mortal.Slate(path)

    def close(self) -> None:
        """End what is not the lab's."""
        self.clinic.close()
        self.pair.box.kill()
        self.meddler.close()
        self.upload.close()
        self.pair.ledger.close()
        for slate in self.slates.values():
            slate.close()

    # -- a schedule

    def play(self, schedule: Schedule) -> None:
        """Every step, then rest, then all is compared. Failure names the seed."""
        working: list[Future[None]] = []
        try:
            for number, step in enumerate(schedule.steps):
                self._step(step, working)
                self._honest(f"step {number}")
            self._rest(working, box_dies=schedule.box_dies_last)
            self.check()
        except (LabError, AssertionError, OSError, Failure) as error:
            raise Failure(
                f"{error}; {self._unrest()}\n{schedule}\nthe box says {self.pair.box.status()}\n"
                f"its log: {self.pair.box.tail(25)}\nthe hub's log: {self.pair.hub.tail(25)}"
            ) from error

    def _step(self, step: Step, working: list[Future[None]]) -> None:
        strikes = [Strike(self, fault) for fault in step.faults]
        began = time.monotonic()
        try:
            working += self.clinic.begin(step.work)
            while time.monotonic() - began < STEP_SECONDS:
                if sum(strike.happened() for strike in strikes) == len(strikes):  # look at each
                    break
                if all(each.done() for each in working) and self._at_rest():
                    break  # nothing is under way that could meet it
                time.sleep(0.02)
        finally:
            happened = sum(strike.end() for strike in strikes)
        self.struck += happened
        self.missed += len(strikes) - happened
        self.revive()

    def revive(self) -> None:
        """What systemd does."""
        for program in (self.pair.hub, self.pair.box):
            if not program.running():
                program.kill()
                program.start()

    def _rest(self, working: list[Future[None]], *, box_dies: bool) -> None:
        """The faults are over."""
        self.meddler.calm()
        if box_dies:
            self.pair.box.kill()
        self.revive()
        for each in working:
            each.result(REST_SECONDS)
        wait_until("everything at the hub", self._at_rest, REST_SECONDS)

    # -- what became of it

    def _at_rest(self) -> bool:
        """Looked at now and then only: the looking is work for the programs too."""
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_SECONDS
        return not self._unrest()

    def _unrest(self) -> list[str]:
        """What is still under way."""
        self.revive()
        ledger, promises = self.pair.ledger, self.promises
        found = [
            f"{stream}: {count} of {len(ids)}"
            for stream, ids in promises.records.items()
            if stream != POISON and (count := ledger.count(stream)) < len(ids)
        ]
        if found or not self.pair.box.drained():
            return [*found, "the box is not drained"]
        if not all(self._item(each).get("rejected") for each in promises.poison[-3:]):
            return ["poison is not rejected"]
        if not self._images_safe():
            return ["images are not safe"]
        return self._waiting_down() or self._untrue()

    def _waiting_down(self) -> list[str]:
        """What the box has not taken and acknowledged."""
        query = text("SELECT stream FROM down_stream WHERE committed < last")
        with self.pair.ledger._reading() as connection:
            return [f"{row.stream} waits to go down" for row in connection.execute(query)]

    def _untrue(self) -> list[str]:
        """What the hub says of a box that is there."""
        here = [row for row in rows(self.pair.hub, "nodes") if len(row["online"]) == 2]
        return [] if here else ["the hub calls the box offline"]

    def _images_safe(self) -> bool:
        found = [image for uid in self.promises.studies for image in self._images(uid)]
        return len(found) >= len(self.promises.images) and all(
            image["state"] in ("safe", "seen") for image in found
        )

    def _images(self, study: str) -> list[dict[str, Any]]:
        """As the box's page shows them."""
        try:
            path = f"/studies/{study_key(self.pair.node, study)}"
            reply = self._nurse.caller.get(path)
        except (OSError, http.client.HTTPException):
            return []
        return list(reply.body["found"]["images"]) if reply.status == 200 else []

    def _item(self, identity: bytes) -> dict[str, Any]:
        """What the box says of a record; nothing while it is away."""
        try:
            answer = ask(self.pair.box.state / "control.sock", "GET", f"/items/{identity.hex()}")
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        return dict(answer.body) if answer.status == 200 else {}

    def _honest(self, when: str) -> None:
        """What the box calls committed or safe is in the hub's log by then."""
        for stream, ids in self.promises.records.items():
            found = self._item(ids[-1]) if ids else {}
            if found.get("state") in ("committed", "safe", "seen"):
                logged = self.pair.ledger.logged(stream)
                if logged < found["seq"]:
                    raise Failure(f"{when}: {stream} {found} is {found['state']}, and not logged")

    def check(self) -> None:
        """Everything that was ever promised, against the hub's tables."""
        promises, ledger = self.promises, self.pair.ledger
        for stream, ids in promises.records.items():
            if stream == POISON:
                assert ledger.logged(POISON) == len(ids), "poison is lost, or logged twice"
                assert ledger.count(POISON) == 0, "poison was applied"
            else:
                ledger.check(ids, stream)
        assert self._kinds("patient.registered") == len(promises.patients), "patients"
        promises.compared += len(promises.images)
        assert self._kinds("image.stored") == promises.compared, "images"
        for study in promises.studies:
            self._compare(study)
        assert not promises.images, "an image is not at the hub"
        promises.studies.clear()
        codes = {notice["code"] for notice in rows(self.pair.hub, "notices")}
        assert not codes & {"forked"}, f"the admins are told {codes}"

    def audited(self) -> None:
        """No row of either audit log was torn or written twice, whoever died. LabError if so."""
        self.pair.box.ask("audit", "verify")
        self.pair.hub.ask("audit", "verify")

    def _kinds(self, kind: str) -> int:
        with self.pair.ledger._reading() as connection:
            query = text("SELECT count(*) FROM record WHERE kind = :kind")
            return int(connection.execute(query, {"kind": kind}).scalar_one())

    def _compare(self, study: str) -> None:
        """Every pixel as the hub's console hands it out."""
        for image in self._images(study):
            path = f"/studies/{study_key(self.pair.node, study)}/{image['id']}/original"
            reply = self._admin.caller.get(path)
            assert reply.status == 200, f"the hub has no {image}: {reply}"
            assert hashlib.sha256(reply.body).hexdigest() == image["sha256"]
            sop_uid = str(dcmread(io.BytesIO(reply.body), stop_before_pixels=True).SOPInstanceUID)
            assert self.promises.images.pop(sop_uid) == pixels(reply.body), "other pixels"

    # -- processes

    def pid(self, victim: str) -> int | None:
        """Of a program that runs now."""
        parents = {CORE: self.pair.box, HUB: self.pair.hub}
        if victim == DATABASE:
            return self._postgres.pid if self._postgres else None
        if victim in parents:
            process = parents[victim].process
            return process.pid if process is not None and process.poll() is None else None
        parent, word = {SCP: (self.pair.box, "scp"), BROKER: (self.pair.hub, "mosquitto")}[victim]
        if parent.process is None or parent.process.poll() is not None:
            return None
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(parent.process.pid).children():
                if word in {Path(part).name for part in child.cmdline()}:
                    return int(child.pid)
        return None

    def alive(self, victim: str) -> int:
        """Its process id as soon as it runs."""
        found: list[int] = []

        def runs() -> bool:
            self.revive()
            if (pid := self.pid(victim)) is not None:
                found.append(pid)
            return bool(found)

        wait_until(f"a {victim}", runs)
        return found[0]

    def kill(self, victim: str) -> None:
        """SIGKILL; a child that is just away is waited for."""
        if victim == DATABASE and self._postgres:
            kill_postgres(self._postgres)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.alive(victim), signal.SIGKILL)

    def wipe(self) -> None:
        """The hub dies, its broker with it, and nothing that the broker wrote is left."""
        broker = self.pid(BROKER)
        self.pair.hub.kill()
        wait_until("no broker", lambda: broker is None or not psutil.pid_exists(broker))
        shutil.rmtree(self.pair.hub.state / "broker")
        self.revive()


@contextlib.contextmanager
def fleet(*, postgres: bool = False) -> Iterator[Fleet]:
    """One in a lab of its own, on SQLite or on PostgreSQL."""
    with lab() as place:
        made = Fleet(place, place.postgres() if postgres else None)
        try:
            yield made
        finally:
            made.close()
