"""A bad line between box and broker: cut in mid-frame, half-open, slow, in drops.

The line is a proxy in this program; the box dials it because the port in its identity says so.
"""

import random
from collections.abc import Iterator

import pytest

from lab import Lab, wait_until
from line import CHUNK, Line
from support.lab_fixtures import HubLedger, Pair, Writer, dial, note, put_all, settled


@pytest.fixture(scope="module")
def far(place: Lab) -> Iterator[tuple[Pair, Line]]:
    """A pair with a line between."""
    hub = place.hub().start().wait()
    box = place.box().start()
    node = box.enrol(hub)
    box.stop()
    line = Line(hub.mqtt_port)
    dial(box, line.port)
    ledger = HubLedger(hub)
    yield Pair(hub, box, node, ledger), line
    line.close()
    ledger.close()


@pytest.fixture
def good(far: tuple[Pair, Line]) -> tuple[Pair, Line]:
    """The line in order, the box fresh: its pauses begin anew."""
    pair, line = far
    line.frozen, line.cut_after, line.chunk, line.pause_s = False, None, CHUNK, 0.0
    pair.box.kill()
    pair.box.start().wait()
    wait_until("a box that is online", pair.box.online)
    return far


def arrives(pair: Pair, writer: Writer) -> None:
    """All that was promised is at the hub, once, in order."""
    promised = writer.ids()
    settled(pair.box, pair.ledger, len(promised), writer.stream)
    pair.ledger.check(promised, writer.stream)


@pytest.mark.parametrize("seed", [1])
def test_a_line_that_is_cut_in_mid_frame(good: tuple[Pair, Line], seed: int) -> None:
    pair, line = good
    chance = random.Random(seed)
    writer = Writer(pair.box, 3000, f"record.cut-{seed}")
    for number in range(4):
        line.cut_after = chance.randrange(500, 9000)
        print(f"seed {seed}, cut {number} after {line.cut_after} bytes")
        # A drained box sends no more: give it something.
        put_all(pair.box, [note("y" * 5000) for _ in range(5)], "telemetry.more")
        wait_until("a cut", lambda: line.cut_after is None)
    arrives(pair, writer)


def test_a_line_that_dies_silently_is_noticed(good: tuple[Pair, Line]) -> None:
    """Half-open: no reset ever comes. The box sends into the void until its keepalive says so."""
    pair, line = good
    writer = Writer(pair.box, 500, "record.half-open")
    wait_until("something under way", lambda: pair.ledger.count("record.half-open") > 0)
    line.frozen = True
    promised = put_all(pair.box, [note() for _ in range(50)], "alarm.half-open")
    wait_until("a box that gave the line up", lambda: not pair.box.online(), 50)
    line.reset()
    line.frozen = False
    arrives(pair, writer)
    settled(pair.box, pair.ledger, 50, "alarm.half-open")
    pair.ledger.check(promised, "alarm.half-open")


def test_a_line_that_stops_for_longer_than_a_time_out(good: tuple[Pair, Line]) -> None:
    """Everything is sent again while the first copy is still under way: nothing doubles."""
    pair, line = good
    line.frozen = True
    promised = put_all(pair.box, [note() for _ in range(300)], "record.stalled")

    def sent_again() -> bool:
        found = pair.box.status()
        return any(link["timeouts"] for link in found["links"])

    wait_until("a box that sends again", sent_again)
    line.frozen = False
    settled(pair.box, pair.ledger, 300, "record.stalled")
    pair.ledger.check(promised, "record.stalled")


def test_a_slow_line_in_drops(good: tuple[Pair, Line]) -> None:
    """A few hundred bytes at a time: frames shrink to the rate, an alarm does not wait for all."""
    pair, line = good
    line.chunk, line.pause_s = 700, 0.01
    texts = [note(random.Random(n).randbytes(300).hex()) for n in range(400)]
    promised = put_all(pair.box, texts, "study.slow")
    alarm = put_all(pair.box, [note("now")], "alarm.slow")
    settled_alarm = wait_until("an alarm", lambda: pair.ledger.count("alarm.slow") == 1)
    behind = pair.ledger.count("study.slow")
    print(f"alarm after {settled_alarm:.2f} s, with {behind} of 400 behind it")
    assert behind < 400
    line.chunk, line.pause_s = CHUNK, 0.001
    settled(pair.box, pair.ledger, 400, "study.slow")
    pair.ledger.check(promised, "study.slow")
    pair.ledger.check(alarm, "alarm.slow")
