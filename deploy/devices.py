"""A clinic's devices for the story: a scanner's images of one patient, and a wearable on the wrist.

Images are those that pydicom carries, under this patient's name and number as a modality that was
given them at its keyboard would send them, and a series of noise in which no two slices are equal.
"""

import hashlib
import json
import ssl
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import paho.mqtt.client as paho
import pydicom
from paho.mqtt.enums import CallbackAPIVersion
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from lab import wait_until

CT, ULTRASOUND = "CT_small.dcm", "examples_rgb_color.dcm"
_UNITS = {"spo2": "%", "systolic": "mm[Hg]", "diastolic": "mm[Hg]", "temperature": "Cel"}


class Labelled(NamedTuple):
    """Who a modality says its images are of."""

    name: str
    number: str
    birth: date
    sex: str


def scans(folder: Path, of: Labelled, slices: int) -> list[Path]:
    """Part 10 files: one CT image, one ultrasound image, and a CT series of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [_labelled(folder, name, of) for name in (CT, ULTRASOUND)]
    study, series = generate_uid(), generate_uid()
    for number in range(1, slices + 1):
        image = _packaged(CT, of)
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.SOPInstanceUID = generate_uid()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.InstanceNumber = number
        noise = np.random.default_rng(number).integers(0, 4096, (image.Rows, image.Columns))
        image.PixelData = noise.astype("<i2").tobytes()
        path = folder / f"noise-{number:03d}.dcm"
        image.save_as(path, enforce_file_format=True)
        made.append(path)
    return made


def pixel_hash(content: bytes | Path) -> str:
    """SHA-256 of a Part 10 file's pixels as they lie in it."""
    path = content if isinstance(content, Path) else pydicom.filebase.DicomBytesIO(content)
    return hashlib.sha256(pydicom.dcmread(path).PixelData).hexdigest()


def _labelled(folder: Path, name: str, of: Labelled) -> Path:
    image = _packaged(name, of)
    path = folder / name
    image.save_as(path, enforce_file_format=True)
    return path


def _packaged(name: str, of: Labelled) -> pydicom.Dataset:
    found = get_testdata_file(name, download=False)
    image = pydicom.dcmread(str(found))
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName, image.PatientID = of.name, of.number
    image.PatientBirthDate, image.PatientSex = of.birth.strftime("%Y%m%d"), of.sex
    if image.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian:
        raise ValueError(f"{name} is not what the story expects")
    return image


class Band:
    """A wearable: publishes until it has the box's receipt."""

    def __init__(self, port: int, ca: Path, device: str, password: str) -> None:
        self.device = device
        self.receipts: dict[str, Any] = {}
        self._port = port
        self._granted = threading.Event()
        self._client = client = paho.Client(CallbackAPIVersion.VERSION2, client_id=device)
        client.username_pw_set(device, password)
        client.tls_set(str(ca), tls_version=ssl.PROTOCOL_TLS_CLIENT)
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._connected
        client.on_subscribe = lambda *_: self._granted.set()
        client.on_message = self._received

    def __enter__(self) -> Self:
        self._client.connect_async("localhost", self._port, keepalive=10)
        self._client.loop_start()  # dials until somebody answers
        wait_until("a wearable that is let in", self._granted.is_set)
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def measure(self, name: str, **values: float) -> str:
        """One message, sent until its receipt came; what the receipt says became of it."""
        now = time.time_ns() // 1_000_000
        whole = {key: {"value": v, "unit": _UNITS.get(key, "/min")} for key, v in values.items()}
        message = {"id": name, "measured_ms": now, "sent_ms": now, "values": whole}
        sent = 0.0

        def answered() -> bool:
            nonlocal sent
            if name not in self.receipts and time.monotonic() - sent > 1.0:
                sent = time.monotonic()
                self._client.publish(f"devices/{self.device}/vitals", json.dumps(message), qos=1)
            return name in self.receipts

        wait_until(f"a receipt for {name}", answered)
        return str(self.receipts[name])

    def _connected(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(f"devices/{self.device}/receipts", qos=1)

    def _received(self, _client: paho.Client, _data: Any, found: paho.MQTTMessage) -> None:
        receipt = json.loads(found.payload)
        self.receipts[receipt["id"]] = receipt
