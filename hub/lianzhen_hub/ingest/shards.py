"""Several ingests as processes of their own, as the hub sees them (``shard`` is the other end).

Each holds one connection to us while it lives: what it has logged comes up, whom to tell goes down.
A shard that dies is started again and its boxes say hello to it; the others do not notice. A shard
that loses us ends, and so nothing that was said is ever half known.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

import msgspec

from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.lanes import Lane, lane_of
from lianzhen_runtime.child import Child
from lianzhen_runtime.flow import Flow
from lianzhen_runtime.log import Log
from lianzhen_runtime.supervise import supervised

from .share import shard_of
from .status import IngestStatus, total
from .traffic import TrafficSum

SOCKET: Final = "shards.sock"
_LINE_BYTES: Final = 16 << 20
_ANSWER_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.2
_log = Log("lianzhen.shards")


class Up(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A shard's line: who it is at first, then what happened."""

    shard: int | None = None
    logged: bool = False
    done: int = 0
    status: IngestStatus | None = None
    sessions: int = 0
    listening: bool = False
    lanes: dict[str, tuple[int, int]] = {}
    """Frames and bytes of each lane since its start, by the lane's first word."""
    rates: list[tuple[str, str, float]] = []
    """Node, lane, bytes a second."""


class Down(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Our line: boxes that have something to come, one that is out, a fleet that changed."""

    told: list[str] = []
    revoked: str = ""
    turn: int = 0
    fleet: bool = False
    safe: bool = False
    """Safe marks moved in the database."""


def _counter(kind: type[Counter[str]], value: dict[str, int]) -> Counter[str]:
    return kind(value)


class _Shard:
    """One of them, while it is connected."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.latest = Up()
        self.answers: dict[int, asyncio.Future[None]] = {}

    def say(self, line: Down) -> None:
        self._writer.write(msgspec.json.encode(line) + b"\n")


class Shards:
    """``run`` is a service for ``supervised``. Everything else is asked as of one ingest."""

    def __init__(
        self,
        folder: Path,
        count: int,
        command: Sequence[str],
        active: Callable[[], frozenset[str]],
        logged: Callable[[], None],
    ) -> None:
        self._path = folder / SOCKET
        self._active = active
        self._logged = logged
        self._turns = 0
        self._here: dict[int, _Shard] = {}
        self.children = [
            Child(f"ingest-{shard}", [*command, "ingest", "--shard", str(shard)])
            for shard in range(count)
        ]

    async def run(self) -> None:
        """Hold all of them."""
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, self._path, limit=_LINE_BYTES)
        async with server, asyncio.TaskGroup() as services:
            for child in self.children:
                service = supervised(child.name, child.run, cap=2.0)
                services.create_task(service, name=child.name)
            services.create_task(self._watch_the_fleet())

    @property
    def listening(self) -> bool:
        """True while each of them does."""
        heard = [shard.latest.listening for shard in self._here.values()]
        return len(heard) == len(self.children) and all(heard)

    @property
    def sessions(self) -> int:
        """How many sessions are live."""
        return sum(shard.latest.sessions for shard in self._here.values())

    @property
    def status(self) -> IngestStatus:
        """The sum of those that are there; a restarted one counts from zero."""
        found = (shard.latest.status for shard in self._here.values())
        return total(each for each in found if each is not None)

    @property
    def traffic(self) -> TrafficSum:
        """How much comes in, and from whom."""
        lanes: dict[Lane, Flow] = {}
        boxes: dict[tuple[str, str], float] = {}
        for shard in self._here.values():
            for word, (items, size) in shard.latest.lanes.items():
                lanes.setdefault(lane_of(word), Flow()).passed(items, size)
            boxes |= {(node, lane): rate for node, lane, rate in shard.latest.rates}
        return TrafficSum(lanes, boxes)

    def made_safe(self) -> None:
        """The safe marks moved in the database: the boxes that are there are told."""
        for shard in self._here.values():
            shard.say(Down(safe=True))

    async def told(self, nodes: Collection[NodeId]) -> None:
        """Something waits to go down to these boxes. A shard that is away looks when it is back."""
        whose: dict[int, list[str]] = {}
        for node in nodes:
            whose.setdefault(shard_of(node, len(self.children)), []).append(node)
        for number, named in whose.items():
            if (shard := self._here.get(number)) is not None:
                shard.say(Down(told=named))

    async def revoked(self, node: NodeId) -> None:
        """A box was taken out of service: when this returns its shard hears it no more."""
        shard = self._here.get(shard_of(node, len(self.children)))
        if shard is None:
            return  # it begins with the fleet as it is now
        self._turns += 1
        turn, answer = self._turns, asyncio.get_running_loop().create_future()
        shard.answers[turn] = answer
        shard.say(Down(revoked=node, turn=turn))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await answer
        finally:
            shard.answers.pop(turn, None)

    # -- inside

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shard, number = _Shard(writer), -1
        try:
            while line := await reader.readline():
                said = msgspec.json.decode(line, type=Up, dec_hook=_counter)
                if said.shard is not None:
                    number = said.shard
                    self._here[number] = shard
                    _log.info("shard is here", service=f"ingest-{number}")
                self._take(shard, said)
        except (OSError, ValueError) as error:
            _log.warning("shard is not understood", error=type(error).__name__)
        finally:
            if self._here.get(number) is shard:
                del self._here[number]
            for answer in shard.answers.values():  # it hears nobody any more
                if not answer.done():
                    answer.set_result(None)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _take(self, shard: _Shard, said: Up) -> None:
        if said.logged:
            self._logged()
        if said.status is not None:
            shard.latest = said
        answer = shard.answers.get(said.done)
        if answer is not None and not answer.done():
            answer.set_result(None)

    async def _watch_the_fleet(self) -> None:
        """A box that was enrolled a moment ago is not to wait for its shard's next look."""
        known = self._active()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            found = self._active()
            if found is not known and found != known:
                for shard in self._here.values():
                    shard.say(Down(fleet=True))
            known = found
