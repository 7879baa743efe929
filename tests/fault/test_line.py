"""A bad line between box and broker: cut in mid-frame, half-open, slow, in drops.

The line is a proxy in this program; the box dials it because the port in its identity says so.
"""

import contextlib
import json
import random
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import BoxProgram, Lab, free_ports, wait_until
from support.lab_fixtures import HubLedger, Pair, Writer, note, put_all, settled

CHUNK = 16 << 10


class BadLine:
    """Forwards TCP until told to misbehave. One thread, which owns every socket."""

    def __init__(self, target: int) -> None:
        self._target = ("127.0.0.1", target)
        (self.port,) = free_ports(1)
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._peers: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._ending = False
        self.passed = 0
        """Bytes that went up, by all connections together."""
        self.cut_after: int | None = None
        """Every connection is reset when this many more bytes went up."""
        self.frozen = False
        """Nothing is forwarded, and no connection is closed: a line that died silently."""
        self.chunk, self.pause_s = CHUNK, 0.0
        """How much passes at a time, and how long it takes."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ending = True
        self._thread.join(10)
        self.reset()
        self._listener.close()
        self._selector.close()

    def reset(self) -> None:
        """Drop every connection at once, without a good-bye."""
        with self._lock:
            for one in list(self._peers):
                self._forget(one)

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not self._ending:
            if self.frozen:
                time.sleep(0.02)
                continue
            for key, _ in self._selector.select(0.1):
                with self._lock, contextlib.suppress(OSError):
                    self._serve(key.fileobj)  # type: ignore[arg-type]

    def _serve(self, ready: socket.socket) -> None:
        if ready is self._listener:
            self._accept()
            return
        if ready not in self._peers:
            return
        try:
            content = ready.recv(self.chunk)
            if content:
                time.sleep(self.pause_s)
                self._peers[ready].sendall(self._allowed(ready, content))
        except OSError:
            content = b""
        if not content:
            self._forget(ready)

    def _accept(self) -> None:
        box, _ = self._listener.accept()
        try:
            hub = socket.create_connection(self._target, 5)
        except OSError:
            box.close()
            return
        for one, other in ((box, hub), (hub, box)):
            one.settimeout(5)
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _allowed(self, source: socket.socket, content: bytes) -> bytes:
        if source.getpeername() == self._target:
            return content
        self.passed += len(content)
        if self.cut_after is None:
            return content
        self.cut_after -= len(content)
        if self.cut_after > 0:
            return content
        kept = content[: self.cut_after or None]
        self.cut_after = None
        self._peers[source].sendall(kept)
        for one in list(self._peers):
            self._forget(one)
        return b""

    def _forget(self, one: socket.socket) -> None:
        for leaving in (one, self._peers.get(one)):
            if leaving is not None and self._peers.pop(leaving, None) is not None:
                self._selector.unregister(leaving)
                with contextlib.suppress(OSError):
                    leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                leaving.close()


def dial(box: BoxProgram, port: int) -> None:
    """Let an enrolled box find its broker at another port."""
    for path in Path(box.state, "identity").glob("*/identity.json"):
        about = json.loads(path.read_bytes())
        path.write_text(json.dumps(about | {"mqtt_port": port}))


@pytest.fixture(scope="module")
def far(place: Lab) -> Iterator[tuple[Pair, BadLine]]:
    """A pair with a line between."""
    hub = place.hub().start().wait()
    box = place.box().start()
    node = box.enrol(hub)
    box.stop()
    line = BadLine(hub.mqtt_port)
    dial(box, line.port)
    ledger = HubLedger(hub)
    yield Pair(hub, box, node, ledger), line
    line.close()
    ledger.close()


@pytest.fixture
def good(far: tuple[Pair, BadLine]) -> tuple[Pair, BadLine]:
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


@pytest.mark.parametrize("seed", [1, 2])
def test_a_line_that_is_cut_in_mid_frame(good: tuple[Pair, BadLine], seed: int) -> None:
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


def test_a_line_that_dies_silently_is_noticed(good: tuple[Pair, BadLine]) -> None:
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


def test_a_line_that_stops_for_longer_than_a_time_out(good: tuple[Pair, BadLine]) -> None:
    """Everything is sent again while the first copy is still under way: nothing doubles."""
    pair, line = good
    line.frozen = True
    promised = put_all(pair.box, [note() for _ in range(300)], "record.stalled")

    def sent_again() -> bool:
        found = pair.box.status()
        return any(link["timeouts"] for link in found["links"])

    wait_until("a box that sends again", sent_again, 15)
    line.frozen = False
    settled(pair.box, pair.ledger, 300, "record.stalled")
    pair.ledger.check(promised, "record.stalled")


def test_a_slow_line_in_drops(good: tuple[Pair, BadLine]) -> None:
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
