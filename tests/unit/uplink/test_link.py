"""The box's link believes the hub's signature and nothing else."""

import ssl
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.uplink.link import Credentials, Link
from lianzhen_hub.fleet.authority import SIGNER_LIFE, Authority, Signer
from lianzhen_protocol import hello as messages
from lianzhen_protocol import signing
from lianzhen_protocol.hello import Ack, Refused, SayHello, Signed, Welcome
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.lanes import Group
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.mqtt import Address
from lianzhen_runtime.signer import SignerTrust

NODE, OTHER = NodeId("n0123456789ab"), NodeId("nzzzzzzzzzzzz")
SESSION = bytes(16)
WELCOME = Welcome(session=SESSION, protocol=1, now_ms=1, credit=1, marks=())
ACK = Ack(session=SESSION, epoch=SESSION, now_ms=1, credit=1, marks=())
REFUSED = Refused(session=SESSION, code="revoked", reason="out of service")


class Clock:
    """The box's clock, moved by ``by`` seconds."""

    by = 0.0

    def now(self) -> float:
        return time.time() + self.by

    def learn(self, now_ms: int) -> None:
        raise AssertionError(f"nobody told the time {now_ms}")


class Box:
    """A link that never dials, and the authority that it trusts."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        authority = Authority(folder / "ca")
        self.signer = authority.signer()
        self.clock = Clock()
        trust = SignerTrust(authority.ca_pem)
        who = Credentials(NODE, "ab", Address("127.0.0.1", 1), trust, self._never)
        instance = bytes(16)
        self.link = Link(
            Group.URGENT, journal, who, self.clock, instance, lambda *_: None, lambda _: None
        )

    def believes(self, wire: bytes) -> Welcome | Ack | Refused | None:
        return self.link._verified(wire)

    def introduced(self) -> None:
        """It was welcomed once, and knows the signing key."""
        assert self.believes(signed(self.signer, NODE, WELCOME, self.signer.der)) == WELCOME

    @staticmethod
    def _never() -> ssl.SSLContext:
        raise AssertionError("nobody dials")


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    keys = FileKeys(tmp_path / "keys")
    journal = await Journal.open(tmp_path / "journal.db", NODE, keys, lambda: 0)
    yield Box(tmp_path, journal)
    await journal.close()


def signed(
    signer: Signer, node: NodeId, message: Welcome | Ack | Refused, certificate: bytes = b""
) -> bytes:
    return signing.sign(signer.key, node, message, certificate)


@pytest.mark.parametrize("message", [WELCOME, ACK, REFUSED], ids=["welcome", "ack", "refused"])
async def test_what_the_hub_signed_for_this_box_is_believed(
    box: Box, message: Welcome | Ack | Refused
) -> None:
    box.introduced()
    assert box.believes(signed(box.signer, NODE, message)) == message


@pytest.mark.parametrize("message", [WELCOME, ACK, REFUSED], ids=["welcome", "ack", "refused"])
async def test_what_the_hub_signed_for_another_box_is_not(
    box: Box, message: Welcome | Ack | Refused
) -> None:
    box.introduced()
    assert box.believes(signed(box.signer, OTHER, message)) is None
    assert box.believes(signed(box.signer, OTHER, message, box.signer.der)) is None


async def test_before_the_key_was_introduced_nothing_is_believed(box: Box) -> None:
    assert box.believes(signed(box.signer, NODE, ACK)) is None


async def test_another_hubs_key_is_not_believed_and_changes_nothing(
    box: Box, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other").signer()
    box.introduced()
    assert box.believes(signed(other, NODE, ACK, other.der)) is None
    assert box.believes(signed(other, NODE, ACK)) is None
    assert box.believes(signed(box.signer, NODE, ACK)) == ACK


async def test_what_was_changed_on_the_way_is_not_believed_otherwise(box: Box) -> None:
    box.introduced()
    wire = bytearray(signed(box.signer, NODE, ACK))
    for place in range(len(wire)):
        wire[place] ^= 1
        # The name of the certificate's field, empty here, is the one thing that may change.
        assert box.believes(bytes(wire)) in (None, ACK)
        wire[place] ^= 1


@pytest.mark.parametrize("days", [-2.0, SIGNER_LIFE / timedelta(days=1) + 1])
async def test_a_signing_certificate_counts_at_the_boxs_time(box: Box, days: float) -> None:
    box.clock.by = days * 86400
    assert box.believes(signed(box.signer, NODE, WELCOME, box.signer.der)) is None


@pytest.mark.parametrize(
    "message",
    [WELCOME, SayHello(), Signed(message=messages.encode(ACK), signature=bytes(64))],
    ids=["unsigned", "say-hello", "no-signature"],
)
async def test_what_nobody_signed_is_not_believed(
    box: Box, message: Welcome | SayHello | Signed
) -> None:
    box.introduced()
    assert box.believes(messages.encode(message)) is None


async def test_rubbish_is_not_believed(box: Box) -> None:
    for wire in (b"", b"\xc1", b"\x80", bytes(1000)):
        assert box.believes(wire) is None
