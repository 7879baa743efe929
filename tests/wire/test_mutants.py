"""Each rule of the protocol is needed: break one, and the simulator finds it.

A mutant is the smallest change that forgets one rule. The checks are the same ones that the
unbroken machines pass (test_simulation), on as many schedules.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from hypothesis.stateful import run_state_machine_as_test

from lianzhen_protocol import chain, kinds, lanes, marks, receiver, records
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.frame import Frame
from lianzhen_protocol.hello import Hello
from lianzhen_protocol.lanes import Lane
from lianzhen_protocol.marks import Diverged, HashAt, Position, Resume
from lianzhen_protocol.receiver import Accepted, Divergent, Gap, Repeated, Verdict
from lianzhen_protocol.sender import Outgoing, Sender
from support.simulator_box import Box
from support.simulator_hub import Hub
from support.simulator_rules import EXAMPLES, Schedule, profile
from support.simulator_scripts import SCRIPTS, play
from support.simulator_store import Inbox, Line, Outbox


def run(box: type[Box] = Box, hub: type[Hub] = Hub, examples: int = EXAMPLES) -> None:
    """The same schedules for every mutant: first the directed ones, then those of chance."""

    class Mutant(Schedule):
        box_class: ClassVar[type[Box]] = box
        hub_class: ClassVar[type[Hub]] = hub

    for script in SCRIPTS.values():
        for at_once in (True, False):
            play(script, Mutant(), at_once=at_once)
    run_state_machine_as_test(Mutant, settings=profile(examples, steps=50, explain=False))


@contextmanager
def found(how: str) -> Iterator[None]:
    """The checks fail, and for this reason."""
    with pytest.raises(AssertionError, match=how):
        yield


def test_a_hub_that_skips_the_chain_check_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = receiver.receive

    def receive(mark: Position, frame: Frame) -> Verdict:
        verdict = honest(mark, frame)
        if not isinstance(verdict, Divergent):
            return verdict
        fresh = frame.records[mark.seq + 1 - frame.first :]
        *_, end = chain.walk(mark.hash, fresh)
        return Accepted(mark.seq + 1, fresh, Position(frame.last, end))

    monkeypatch.setattr(receiver, "receive", receive)
    with found("nobody wrote this history|given up|no rest|ends at"):
        run()


def test_a_box_that_believes_marks_without_their_hash_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reconcile(last: int, safe: int, theirs: Position, hash_at: HashAt) -> Resume | Diverged:
        return Resume(max(safe, min(last, theirs.seq)))

    monkeypatch.setattr(marks, "reconcile", reconcile)
    with found("on no card and not safe|given up|went|ends at|no rest"):
        run()


def test_a_hub_that_acknowledges_before_its_commit_is_found() -> None:
    class Hasty(Hub):
        def heard(self, frame: Frame) -> None:
            at = self.intake.staged((frame.epoch, frame.stream))
            self.answer(frame.epoch, frame.stream, at)

    with found("on no card and not safe"):
        run(hub=Hasty)


def test_a_box_that_deletes_what_is_only_committed_is_found() -> None:
    class Careless(Box):
        def deletable(self, committed: int, safe: int) -> int:
            return committed

    with found("on no card and not safe"):
        run(box=Careless)


def test_a_projection_that_forgets_record_ids_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inbox, "is_known", lambda self, identity: False)
    with found("applied twice"):
        run()


def test_a_fork_that_leaves_its_records_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsafe(self: Outbox, line: Line) -> list[bytes]:
        return []

    monkeypatch.setattr(Outbox, "unsafe", unsafe)
    with found("on no card and not safe"):
        run()


def test_a_receiver_that_ignores_gaps_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = receiver.receive

    def receive(mark: Position, frame: Frame) -> Verdict:
        verdict = honest(mark, frame)
        if not isinstance(verdict, Gap):
            return verdict
        *_, end = chain.walk(frame.before, frame.records)
        return Accepted(frame.first, frame.records, Position(frame.last, end))

    monkeypatch.setattr(receiver, "receive", receive)
    with found("follows"):
        run()


def test_a_sender_that_never_goes_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def rewind(self: Sender, stream: Outgoing, now: float) -> None:
        return

    monkeypatch.setattr(Sender, "_rewind", rewind)
    with found("given up|no rest|went"):
        run()


def test_a_sender_deaf_to_marks_behind_its_own_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Sender._apply

    def apply(self: Sender, mark: marks.StreamMark, now: float) -> Any:
        stream = self._streams.get(mark.stream)
        if stream is not None and stream.welcomed:
            stream.checked = True
        return honest(self, mark, now)

    monkeypatch.setattr(Sender, "_apply", apply)
    with found("given up|no rest|went"):
        run()


def test_poison_that_stops_its_stream_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Inbox.project

    def project(self: Inbox) -> bool:
        waiting = self.log[self.cursor].records if self.cursor < len(self.log) else ()
        for entry in waiting:
            try:
                kinds.open_body(records.decode(entry))
            except RecordError:
                return False
        return honest(self)

    monkeypatch.setattr(Inbox, "project", project)
    with found("stands still"):
        run()


def test_lanes_without_a_minimum_share_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(self: lanes.LaneScheduler, waiting: Collection[Lane]) -> Lane:
        return min(waiting)

    monkeypatch.setattr(lanes.LaneScheduler, "choose", choose)
    with found("waits while"):
        run()


def test_a_put_that_is_acknowledged_before_its_commit_is_found() -> None:
    class Hasty(Box):
        def put(self, stream: str, record: bytes) -> None:
            super().put(stream, record)
            super().acknowledge(stream, record)

        def acknowledge(self, stream: str, record: bytes) -> None:
            return

    with found("on no card and not safe"):
        run(box=Hasty)


def test_a_receiver_that_takes_an_overlap_for_news_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = receiver.receive

    def receive(mark: Position, frame: Frame) -> Verdict:
        verdict = honest(mark, frame)
        if not isinstance(verdict, Repeated):
            return verdict
        *_, end = chain.walk(frame.before, frame.records)
        return Accepted(frame.first, frame.records, Position(frame.last, end))

    monkeypatch.setattr(receiver, "receive", receive)
    with found("follows"):
        run()


def test_a_hub_that_lets_forked_twins_displace_each_other_is_found() -> None:
    class Forgetful(Hub):
        def _greeted(self, greeting: Hello) -> None:
            for key in [key for key in self.sessions if key[0] is greeting.group]:
                del self.sessions[key]
            super()._greeted(greeting)

    with found("no rest"):
        run(hub=Forgetful)
