"""A box as the hub's ingest sees it: pure, and as honest or broken as a test wants it."""

import secrets
from collections.abc import Iterable, Sequence

from lianzhen_hub.ingest.intake import Arrived, StreamKey
from lianzhen_protocol import chain
from lianzhen_protocol.frame import Frame, FrameCodec
from lianzhen_protocol.hello import Ack, DownMark, Hello
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import Group
from lianzhen_protocol.marks import Position, StreamMark
from lianzhen_protocol.receiver import Accepted, Gap, receive
from lianzhen_protocol.short_frame import ShortCodec
from support.lab_fixtures import Note, notes

NODE = NodeId("n0123456789ab")
STREAM = "record.diagnostic"
NOW_MS = 1_800_000_000_000
_codec, _short = FrameCodec(), ShortCodec()


class UpStream:
    """One stream that a box wrote: frames may be cut from it anew at any time."""

    def __init__(
        self,
        entries: Iterable[bytes] = (),
        *,
        node: NodeId = NODE,
        epoch: Epoch | None = None,
        name: str = STREAM,
    ) -> None:
        self.key = StreamKey(node, epoch or Epoch(secrets.token_bytes(16)), name)
        self.entries = list(entries)

    @classmethod
    def of(cls, batch: Sequence[Note], epoch: Epoch | None = None) -> "UpStream":
        return cls([each.entry for each in batch], epoch=epoch)

    def write(self, count: int) -> list[Note]:
        """That many fresh records at its end."""
        made = notes(count)
        self.entries += [each.entry for each in made]
        return made

    def hash_at(self, seq: int) -> bytes:
        begin = chain.genesis(*self.key)
        return [begin, *chain.walk(begin, self.entries[:seq])][-1]

    def position(self, seq: int) -> Position:
        return Position(seq, self.hash_at(seq))

    def frame(self, first: int, last: int) -> Arrived:
        """Records ``first`` to ``last`` as the broker delivers them."""
        return Arrived(self.key.node, self.key.stream, _codec.encode(self._cut(first, last)))

    def short(self, first: int, last: int) -> Arrived:
        """The same as a short frame."""
        return Arrived(self.key.node, self.key.stream, _short.encode(self._cut(first, last)))

    def _cut(self, first: int, last: int) -> Frame:
        records = tuple(self.entries[first - 1 : last])
        return Frame(self.key.epoch, self.key.stream, first, self.hash_at(first - 1), records)


class DownBox:
    """The receiving side of the down streams: what the journal's inbox keeps of them."""

    def __init__(self) -> None:
        self.session = b""
        self.marks: dict[tuple[Epoch, str], Position] = {}
        self.entries: dict[tuple[Epoch, str], list[bytes]] = {}
        self.frames: list[Frame] = []
        self.deaf = False

    def send(self, node: NodeId, stream: str, wire: bytes) -> None:
        """What the hub calls to publish; a deaf box loses what comes."""
        frame = _codec.decode(wire)
        assert frame.stream == stream
        self.frames.append(frame)
        if self.deaf:
            return
        key = (frame.epoch, stream)
        mark = self.marks.setdefault(key, Position(0, chain.genesis(node, *key)))
        verdict = receive(mark, frame)
        if isinstance(verdict, Accepted):
            self.entries.setdefault(key, []).extend(verdict.records)
            self.marks[key] = verdict.position

    def hello(self) -> Hello:
        """A hello of the urgent group that says what it has."""
        self.session = secrets.token_bytes(16)
        return Hello(
            session=self.session,
            group=Group.URGENT,
            protocols=(1,),
            epoch=bytes(16),
            parentage=None,
            instance=bytes(16),
            serial="ab",
            software="test",
            now_ms=NOW_MS,
            streams=(),
            down=tuple(DownMark(*key, mark) for key, mark in self.marks.items()),
        )

    def ack(self) -> Ack:
        """Its acknowledgement of the last frame that came."""
        last = self.frames[-1]
        mark = self.marks[last.epoch, last.stream]
        gap = isinstance(receive(mark, last), Gap)
        return Ack(
            session=self.session,
            epoch=last.epoch,
            now_ms=NOW_MS,
            credit=1 << 20,
            marks=(StreamMark(last.stream, mark, mark.seq, gap),),
        )
