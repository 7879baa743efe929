"""What must hold in the simulator: after every step, and once all is at rest."""

from lianzhen_protocol import chain, records
from lianzhen_protocol.lanes import Group

from .simulator import World
from .simulator_box import Card
from .simulator_hub import Database
from .simulator_store import NODE, Inbox, Place


class Checks:
    """The invariants over one World. ``always`` is cheap; ``at_rest`` is for the end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._witness = world.air.witness
        self._walked: dict[int, tuple[Inbox, int, dict[Place, tuple[int, bytes]]]] = {}
        self._kept: set[bytes] = set()

    def always(self) -> None:
        """After every step."""
        self._nothing_acknowledged_is_lost()
        self._logs_are_what_somebody_wrote()
        self._applied_once()
        self._forks_are_noticed()
        assert not self._witness.needless_hellos, "a session that both sides knew was given up"

    def _nothing_acknowledged_is_lost(self) -> None:
        safe = self._world.safe_records()
        for box in self._world.boxes:
            held = box.card.outbox.records()
            for stream, record in box.card.witness:
                assert record in held or record in safe or record in self._witness.forgiven, (
                    f"an acknowledged record of {stream} is on no card and not safe at the hub"
                )
        self._kept = (self._kept | safe) - self._witness.forgiven
        assert self._kept <= set(self._world.hub.database.inbox.records()), "the log shrank"

    def _logs_are_what_somebody_wrote(self) -> None:
        inboxes = [self._world.hub.database.inbox, *(b.card.inbox for b in self._world.boxes)]
        for at, inbox in enumerate(inboxes):
            known, count, ends = self._walked.get(at, (None, 0, {}))
            if known is not inbox:
                count, ends = 0, {}
            for place, first, entries in inbox.log[count:]:
                last, here = ends.get(place) or (0, chain.genesis(NODE, *place))
                assert first == last + 1, f"{place[1]}: {first} follows {last} in the log"
                for entry in entries:
                    before, here = here, chain.extend(here, entry)
                    wrote = self._witness.chains.get(place, {}).get(here)
                    assert wrote == (before, entry), f"{place[1]}: nobody wrote this history"
                ends[place] = last + len(entries), here
            self._walked[at] = inbox, len(inbox.log), ends
            for place, mark in inbox.marks.items():
                assert (mark.seq, mark.hash) == ends.get(place), f"{place[1]}: mark and log differ"

    def _applied_once(self) -> None:
        for inbox in (self._world.hub.database.inbox, *(b.card.inbox for b in self._world.boxes)):
            assert len(inbox.applied) == len(set(inbox.applied)), "a record was applied twice"

    def _forks_are_noticed(self) -> None:
        details = [n.detail for n in self._world.hub.database.notices if n.code == "forked"]
        for _, era in self._world.hub.sessions:
            event = self._witness.forks.get(era)
            if event is not None:
                told = any(event.reason in d and event.parent.hex() in d for d in details)
                assert told, "a box forked and nobody was told"

    # -- at rest

    def at_rest(self, *, everybody_wrote: bool) -> None:
        """After the network healed and nothing moves any more.

        A stream at rest says nothing: that the hub lost what it had called safe, or that a twin
        went on in it, comes out with the next record. So ends agree once ``everybody_wrote``.
        """
        self.always()
        database = self._world.hub.database
        log = set(database.inbox.records())
        self._projected(database.inbox)
        for box in self._world.boxes:
            self._arrived(box.card, database, log)
            if everybody_wrote:
                self._agreed(box.card, database, log)
            self._projected(box.card.inbox)
            session = self._world.hub.sessions.get((Group.URGENT, box.card.outbox.epoch))
            if session and session.id == box.lines[Group.URGENT].session:
                self._down_arrived(box.card, database)

    def _arrived(self, card: Card, database: Database, log: set[bytes]) -> None:
        missing = {record for _, record in card.witness} - log
        assert missing <= self._witness.forgiven, "an acknowledged record never arrived"
        outbox = card.outbox
        for stream, line in outbox.lines.items():
            assert line.committed == line.last, f"{stream}: {line.committed} of {line.last} went"
        heard = any(era == outbox.epoch for era, _ in database.inbox.marks)
        if heard and outbox.epoch in self._witness.forks:
            assert database.epochs.get(outbox.epoch) == outbox.parentage, "a fork without parent"
        self._in_order(card.witness, database.inbox)

    def _agreed(self, card: Card, database: Database, log: set[bytes]) -> None:
        outbox = card.outbox
        for stream, line in outbox.lines.items():
            mark = database.inbox.mark((outbox.epoch, stream))
            assert (mark.seq, mark.hash) == (line.last, line.hash_at(line.last)), (
                f"{stream}: the box ends at {line.last}, the hub at {mark.seq}"
            )
        lost = card.lost.get(outbox.epoch, set())
        assert lost <= log, "the hub lost safe records, and nobody noticed"

    def _projected(self, inbox: Inbox) -> None:
        assert inbox.cursor == len(inbox.log), "the projection stands still"
        applied = set(inbox.applied)
        for entry in set(inbox.records()):
            if entry in self._world.poison:
                assert inbox.quarantine.get(entry) == self._world.poison[entry], "poison ran free"
            else:
                assert entry in applied, "a good record was not applied"

    def _in_order(self, written: list[tuple[str, bytes]], inbox: Inbox) -> None:
        """Records of one stream are applied in the order in which their writer wrote them."""
        rank = {entry: at for at, entry in enumerate(inbox.applied)}
        ends: dict[str, int] = {}
        for stream, entry in written:
            if entry in rank and entry not in self._witness.forgiven:
                assert rank[entry] > ends.get(stream, -1), f"{stream}: applied out of order"
                ends[stream] = rank[entry]

    def _down_arrived(self, card: Card, database: Database) -> None:
        written = [
            (stream, row.record)
            for stream, line in database.outbox.lines.items()
            for row in line.rows
        ]
        arrived = set(card.inbox.records())
        assert {entry for _, entry in written} <= arrived, "a down record never arrived"
        self._in_order(written, card.inbox)
        for entry in card.inbox.applied:
            records.decode(entry)
