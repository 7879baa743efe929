"""Messages of a session: both ways, hostile ones, and what a hello gives away."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import hello
from lianzhen_protocol.errors import MessageError
from lianzhen_protocol.hello import (
    MAX_HELLO_STREAMS,
    Ack,
    DownMark,
    Hello,
    Known,
    Message,
    Parentage,
    Presence,
    Refused,
    SayHello,
    Signed,
    StreamClaim,
    Welcome,
)
from lianzhen_protocol.identity import Epoch
from lianzhen_protocol.lanes import Group
from lianzhen_protocol.marks import Position, StreamMark

E0, E1 = Epoch(b"0" * 16), Epoch(b"1" * 16)
POSITION = Position(7, b"h" * 32)


def greeting(epoch: bytes = E0, parentage: Parentage | None = None, **more: Any) -> Hello:
    """A hello of a box that has one stream."""
    found = Hello(
        session=b"s" * 16,
        group=Group.URGENT,
        protocols=(1,),
        epoch=epoch,
        parentage=parentage,
        instance=b"i" * 16,
        serial="0a",
        software="1.0",
        now_ms=5,
        streams=(StreamClaim("record", POSITION, 3),),
        down=(DownMark(E1, "record", POSITION),),
    )
    return msgspec.structs.replace(found, **more)


MESSAGES: list[Message] = [
    greeting(),
    greeting(parentage=Parentage(E1, "receiver-ahead")),
    SayHello(),
    Welcome(session=b"s" * 16, protocol=1, now_ms=5, credit=9,
            marks=(StreamMark("record", POSITION, 3),)),
    Ack(session=b"s" * 16, epoch=E0, now_ms=5, credit=9,
        marks=(StreamMark("record", POSITION, 3, True),)),
    Presence(instance=b"i" * 16, group=Group.BULK),
    Refused(session=b"s" * 16, code="revoked", reason="no"),
    Signed(message=b"m", signature=b"s"),
]  # fmt: skip
one_of_them = st.sampled_from(MESSAGES)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    assert hello.decode(hello.encode(message)) == message


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_a_message_error(wire: bytes) -> None:
    with pytest.raises(MessageError):
        hello.decode(wire)


@given(one_of_them, st.integers(0, 2000), st.integers(1, 255))
def test_a_changed_byte_is_a_message_or_a_message_error(
    message: Message, at: int, mask: int
) -> None:
    wire = bytearray(hello.encode(message))
    wire[at % len(wire)] ^= mask
    try:
        hello.decode(bytes(wire))
    except MessageError:
        return


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_cut_off_at_any_byte_is_a_message_error(message: Message) -> None:
    wire = hello.encode(message)
    for length in range(len(wire)):
        with pytest.raises(MessageError):
            hello.decode(wire[:length])


def test_unknown_fields_are_let_through() -> None:
    fields = msgspec.msgpack.decode(hello.encode(greeting())) | {"added": {"later": [1]}}
    assert hello.decode(msgspec.msgpack.encode(fields)) == greeting()


def test_nesting_without_end_is_a_message_error() -> None:
    with pytest.raises(MessageError):
        hello.decode(b"\x82\xa4type\xa9say-hello\xa1x" + b"\x91" * 100_000)


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": b"short"},
        {"session": b""},
        {"instance": b"i" * 17},
        {"serial": "0" * 501},
        {"streams": (StreamClaim("../etc", POSITION, 0),)},
        {"streams": (StreamClaim("record\n", POSITION, 0),)},
        {"streams": (StreamClaim("record", Position(-1, b"h" * 32), 0),)},
        {"streams": (StreamClaim("record", Position(1 << 63, b"h" * 32), 0),)},
        {"streams": (StreamClaim("record", Position(1, b"h"), 0),)},
        {"streams": (StreamClaim("record", POSITION, -1),)},
        {"streams": (StreamClaim("record", POSITION, 0),) * (MAX_HELLO_STREAMS + 1)},
        {"protocols": (1,) * 101},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_a_hostile_box_may_claim_ends_at_the_decoder(change: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        hello.decode(hello.encode(greeting(**change)))


def test_the_best_common_version_is_agreed_upon() -> None:
    assert hello.agree((1, 2, 99)) == 1
    assert hello.agree((2,)) is None
    assert hello.agree(()) is None


def test_the_first_hello_of_a_new_box_is_unremarkable() -> None:
    assert hello.observe(greeting(), Known(frozenset(), frozenset())) == []


def test_a_fork_is_noticed_once_with_its_parent_and_reason() -> None:
    forked = greeting(E1, Parentage(E0, "receiver-ahead"))
    (seen,) = hello.observe(forked, Known(frozenset({E0}), frozenset()))
    assert seen.code == "forked"
    assert "receiver-ahead" in seen.detail
    assert E0.hex() in seen.detail
    assert E1.hex() in seen.detail, "two forks of one image would be told in the same words"
    assert hello.observe(forked, Known(frozenset({E0, E1}), frozenset())) == []


def test_a_journal_that_was_thrown_away_is_noticed() -> None:
    (seen,) = hello.observe(greeting(E1), Known(frozenset({E0}), frozenset()))
    assert seen.code == "journal-replaced"


def test_a_twin_is_noticed_and_a_reconnect_is_not() -> None:
    (seen,) = hello.observe(greeting(), Known(frozenset({E0}), frozenset({b"i" * 16})))
    assert seen.code == "second-instance"
    assert hello.observe(greeting(), Known(frozenset({E0}), frozenset({b"j" * 16}))) == []
