"""The receiving process as the box starts it: how much memory it takes, and that nothing of a large
image is lost on the way.
"""

import hashlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lab import free_ports, wait_until
from lianzhen_edge.dicom import pdu
from lianzhen_edge.dicom.arrival import FOLDER, Admissions, Arrival, Caller
from lianzhen_edge.dicom.segments import SegmentReader
from lianzhen_runtime.child import own_command
from lianzhen_runtime.files import private_folder
from lianzhen_runtime.keys import FileKeys
from support.modality import ct_slice, data_set
from support.upper_layer import line, store_command

CINE_BYTES = 86_000_000


@pytest.fixture
def port(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """(its DICOM port, its process id)."""
    (port,) = free_ports(1)
    Admissions(private_folder(tmp_path / FOLDER)).write([Caller("CT1", "127.0.0.1")])
    configuration = tmp_path / "edge.toml"
    configuration.write_text(
        f'state = "{tmp_path}"\nlisten = "127.0.0.1"\ndicom_port = {port}\nimages_quota_mb = 128\n'
    )
    command = own_command("lianzhen_edge", "--config", str(configuration), "scp")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    wait_until("its port", lambda: _answers(port))
    yield port, process.pid
    process.terminate()
    process.wait(60)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_a_cine_of_86_mb_comes_whole_and_takes_less_memory_than_it_has(
    tmp_path: Path, port: tuple[int, int]
) -> None:
    image = ct_slice(1, "1.2.3", "1.2.3.4", NumberOfFrames=100)
    image.PixelData = os.urandom(CINE_BYTES)
    content, uid = data_set(image), str(image.SOPInstanceUID)
    del image.PixelData
    with line(port[0]) as caller:
        caller.say(b"".join(pdu.message(1, store_command(uid), content, 131072)))
        assert caller.status() == 0
    reader = SegmentReader(tmp_path / FOLDER, FileKeys(tmp_path / "keys"))
    ((number, found),) = [(n, each) for n in reader.segments() for each in reader.scan(n)]
    arrival = msgspec.msgpack.decode(found.meta, type=Arrival)
    body = reader.body(found.place)
    assert body.endswith(content)
    assert arrival.sha256 == hashlib.sha256(body).hexdigest()
    assert not reader.in_use(number)
    status = Path(f"/proc/{port[1]}/status").read_text()
    (peak,) = (part.split()[1] for part in status.splitlines() if part.startswith("VmHWM"))
    assert int(peak) < 100 * 1024  # kB, and the libraries with it
    assert not list((tmp_path / FOLDER).glob(".*"))
