"""The clinic on a fleet of faults: what it does, and what it was told is kept.

It asks again until it is answered, as whatever it asks may die meanwhile.
"""

import contextlib
import hashlib
import http.client
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from pydicom.uid import generate_uid

from lab import BoxProgram
from lianzhen_protocol.identity import uuid7

from .consoles import Person
from .faults import STREAMS, Work
from .lab_fixtures import Note, note, put
from .modality import ct_slice, storescu

REST_SECONDS: Final = 300.0
POISON: Final = "record.poison"


class Failure(Exception):
    """A promise was broken, or the fleet does not come to rest."""


class Promises:
    """What the clinic was told is kept, and so must be at the hub."""

    def __init__(self) -> None:
        self.records: dict[str, list[bytes]] = {stream: [] for stream in (*STREAMS, POISON)}
        self.patients: list[str] = []
        self.poison: list[bytes] = []
        self.images: dict[str, str] = {}
        """Those of ``studies``: SOP Instance UID to the hash of its pixels."""
        self.studies: list[str] = []
        self.compared = 0
        """Images that were found at the hub, pixel for pixel, after earlier schedules."""


class Clinic:
    """``begin`` some work; what was promised for it stands in ``promises``."""

    def __init__(self, box: BoxProgram, nurse: Person, folder: Path) -> None:
        self.promises = Promises()
        self._box, self._nurse = box, nurse
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        self._workers: dict[str, ThreadPoolExecutor] = {}
        self._over = threading.Event()

    def close(self) -> None:
        """Nobody asks any more."""
        self._over.set()
        for worker in self._workers.values():
            worker.shutdown(cancel_futures=True)

    def begin(self, work: Work) -> list[Future[None]]:
        """All of it, each kind on a thread of its own."""
        found = [self._later(each[0], partial(self._put, *each)) for each in work.puts]
        found += [self._later(POISON, self._put_poison) for _ in range(work.poison)]
        found += [self._later("console", self._register) for _ in range(work.patients)]
        if work.images:
            found.append(self._later("scanner", lambda: self._scan(work.images, work.side)))
        return found

    def _later(self, worker: str, what: Callable[[], None]) -> Future[None]:
        """One at a time for each worker, in order."""
        pool = self._workers.setdefault(worker, ThreadPoolExecutor(1))
        return pool.submit(what)

    def _insist(self, what: str, done: Callable[[], bool], pause: float = 0.05) -> None:
        """Ask again until it is done; nobody may be there just now."""
        until = time.monotonic() + REST_SECONDS
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                if done():
                    return
            if time.monotonic() > until or self._over.wait(pause):
                raise Failure(f"{what} is not taken")

    def _put(self, stream: str, count: int, size: int) -> None:
        words = secrets.token_hex(size // 2)
        self._put_all(stream, [note(words) for _ in range(count)])

    def _put_all(self, stream: str, found: list[Note]) -> None:
        """Asked until it is answered: the ids make a repetition harmless."""

        def stored() -> bool:
            answer = put(self._box, [each.entry for each in found], stream)
            if answer.status not in (201, 409, 503):
                raise Failure(f"a put is answered {answer.status} {answer.body}")
            return answer.status == 201

        self._insist("a put", stored)
        self.promises.records[stream].extend(each.id for each in found)

    def _put_poison(self) -> None:
        """A record of a kind that stands in no list: the hub refuses it, and says so."""
        found = note()
        bad = found.entry.replace(b"diagnostic.note", b"diagnostic.vote")
        self._put_all(POISON, [Note(found.id, bad)])
        self.promises.poison.append(found.id)

    def _register(self) -> None:
        """A form that is sent again until it is answered."""
        identity = uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10)).hex()
        form = {"id": identity, "name": "张三", "birth_date": "1949-12-31"}

        def registered() -> bool:
            reply = self._nurse.caller.post("/patients", form)
            if reply.status not in (200, 502, 503, 404):
                raise Failure(f"a registration is answered {reply.status} {reply.body}")
            return reply.status == 200 and bool(reply.body["id"] == identity)

        self._insist("a registration", registered)
        self.promises.patients.append(identity)

    def _scan(self, count: int, side: int) -> None:
        """A scanner keeps what it has no Success for, and sends it again."""
        study, series, waiting = generate_uid(), generate_uid(), {}
        for number in range(count):
            image = ct_slice(number, study, series, side)
            path = self._folder / f"{image.SOPInstanceUID}.dcm"
            image.save_as(path, enforce_file_format=True)
            waiting[path] = hashlib.sha256(image.PixelData).hexdigest()

        def sent() -> bool:
            good = storescu(self._box.dicom_port, list(waiting)).good if waiting else []
            for path in good:
                self.promises.images[path.stem] = waiting.pop(path)
                path.unlink()
            return not waiting

        self._insist("a study", sent, pause=0.2)
        self.promises.studies.append(str(study))
