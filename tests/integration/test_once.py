"""A form whose answer got lost: ``kill -9`` between commit and answer, then the same form again."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from lab import free_ports
from lianzhen_protocol.identity import uuid7

PROGRAM = Path(__file__).parents[1] / "support" / "clinic_that_dies.py"
ENOUGH = 30.0


class Console:
    """A doctor's browser at a clinic that lives, or dies with its first answer."""

    def __init__(self, port: int, cookie: str) -> None:
        self._port, self._cookie = port, cookie

    def send(self, path: str, **fields: str) -> str:
        """Where a form leads; "" for no answer at all."""
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ENOUGH)
        headers = {"Cookie": self._cookie, "Content-Type": "application/x-www-form-urlencoded"}
        try:
            line.request("POST", path, urlencode(fields), headers)
            answer = line.getresponse()
            assert answer.status == 303, answer.read()
            return answer.headers["Location"]
        except (http.client.RemoteDisconnected, ConnectionResetError):
            return ""
        finally:
            line.close()

    def read(self, path: str) -> Any:
        """What a page shows."""
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ENOUGH)
        line.request("GET", path, headers={"Cookie": self._cookie, "Accept": "application/json"})
        found = json.loads(line.getresponse().read())
        line.close()
        return found


@contextmanager
def clinic(folder: Path, *, dies: bool) -> Iterator[Console]:
    (port,) = free_ports(1)
    word = "dies" if dies else "lives"
    with subprocess.Popen(
        [sys.executable, PROGRAM, folder, str(port), word],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(PROGRAM.parents[1])},
    ) as program:
        try:
            assert program.stdout is not None
            yield Console(port, program.stdout.readline().strip())
        finally:
            program.kill()


def test_it_was_done_once(tmp_path: Path) -> None:
    once = uuid7(1_800_000_000_000, bytes(range(10))).hex()
    with clinic(tmp_path, dies=True) as console:
        assert console.send("/patients/temporary", once=once) == ""
    with clinic(tmp_path, dies=False) as console:
        patient = console.send("/patients/temporary", once=once)
        assert patient == console.send("/patients/temporary", once=once)
        assert patient != console.send("/patients/temporary", once=once[:-1] + "7")
    forms = (
        (f"{patient}/vitals", {"pulse": "88", "spo2": "93"}),
        (f"{patient}/consultations", {"complaint": "胸痛两小时", "department": "03.04"}),
    )
    for path, fields in forms:
        with clinic(tmp_path, dies=True) as console:
            assert console.send(path, once=once, **fields) == ""
        with clinic(tmp_path, dies=False) as console, ThreadPoolExecutor(10) as browsers:
            asked = [browsers.submit(console.send, path, once=once, **fields) for _ in range(10)]
            assert len({each.result() for each in asked}) == 1
            if "consultations" in path:
                assert asked[0].result() == f"/consultations/{once}"
                # gone back, a word changed: it goes on with the same one
                changed = fields | {"complaint": "胸痛三小时"}
                assert console.send(path, once=once, **changed) == f"/consultations/{once}"
    with clinic(tmp_path, dies=False) as console:
        (case,) = console.read(f"{patient}/consultations")["board"]["open"]
        assert case["complaint"] == "胸痛三小时"
        assert len(console.read(f"{patient}/vitals.json")["trend"]["times"]) == 1
        assert len(console.read("/patients")["patients"]) == 2
