"""The records that a benchmark sends: a kilobyte each, like a form with a picture's worth of noise.

The noise is 374 random bytes a record, in base 64, as a note is text; the rest repeats. A
compressor can take the repeating part away and nothing else.
"""

import base64
import secrets
import time

from lianzhen_protocol import kinds
from lianzhen_protocol.identity import RecordId, uuid7
from lianzhen_protocol.records import DiagnosticNote

TEXT_BYTES = 1024
RANDOM_BYTES = 374

_NOISE_BYTES = -(-RANDOM_BYTES // 3) * 4
_REPEATED = ("blood pressure 128/79, pulse 71, no complaint; " * 24)[: TEXT_BYTES - _NOISE_BYTES]


def entry() -> tuple[RecordId, bytes]:
    """A fresh record: its id and its bytes, as they go over the wire and into the databases."""
    now_ms = time.time_ns() // 1_000_000
    identity = uuid7(now_ms, secrets.token_bytes(10))
    noise = base64.b64encode(secrets.token_bytes(RANDOM_BYTES)).decode()
    return identity, kinds.encode(DiagnosticNote(text=_REPEATED + noise), identity, now_ms)
