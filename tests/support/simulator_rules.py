"""The simulator under Hypothesis: any schedule of work, bad network, crashes and restores."""

from typing import ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lianzhen_protocol.lanes import Group

from .simulator import DOWN_STREAMS, KINDS, UP_STREAMS, World
from .simulator_box import Box
from .simulator_checks import Checks
from .simulator_hub import Hub

EXAMPLES = 160
"""Schedules in the suite; tests/soak/test_simulation_long.py plays thousands."""

_MANY = 200
places = st.integers(min_value=0, max_value=_MANY)
"""Which of the letters (or boxes, images): taken modulo how many there are."""


def profile(
    examples: int, steps: int, *, explain: bool = True, by_chance: bool = False
) -> settings:
    """The same schedules each time, or others each time ``by_chance``; ``explain`` shrinks."""
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if explain else [])]
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=not by_chance,
        database=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


class Schedule(RuleBasedStateMachine):
    """Anything may happen between any two steps; mutants replace ``box_class`` or ``hub_class``."""

    box_class: ClassVar[type[Box]] = Box
    hub_class: ClassVar[type[Hub]] = Hub

    def __init__(self) -> None:
        super().__init__()
        self.failed = False
        self._begin(0, at_once=True)

    @initialize(seed=st.integers(0, 1 << 32), at_once=st.booleans(), warm=st.booleans())
    def begin(self, seed: int, at_once: bool, warm: bool) -> None:
        """A new world; most schedules want one in which everybody has met."""
        self._begin(seed, at_once=at_once)
        if warm:
            self.some_rounds(3)

    def _begin(self, seed: int, *, at_once: bool) -> None:
        self.world = World(seed, at_once=at_once, box=self.box_class, hub=self.hub_class)
        self.checks = Checks(self.world)

    # -- work

    @rule(box=places, stream=st.sampled_from(UP_STREAMS), kind=st.sampled_from(KINDS),
          count=st.integers(1, 4))  # fmt: skip
    def put(self, box: int, stream: str, kind: str, count: int) -> None:
        """Records for a stream, not yet committed."""
        for _ in range(count):
            self._a_box(box).put(stream, self.world.record(kind))

    @rule(box=places, which=places)
    def put_again(self, box: int, which: int) -> None:
        """A caller that never got its answer asks again."""
        card = self._a_box(box).card
        if card.witness:
            self._a_box(box).put(*card.witness[which % len(card.witness)])

    @rule(box=places, stream=st.sampled_from(("alarm", "preview")))
    def storm(self, box: int, stream: str) -> None:
        """Much more than a window on one lane, and a little on the last of its group."""
        lane_last = "vitals.ward-2" if stream == "alarm" else "telemetry"
        for _ in range(110 if stream == "alarm" else 160):
            self._a_box(box).put(stream, self.world.record("note", 15_000))
        self._a_box(box).put(lane_last, self.world.record("note"))

    @rule(stream=st.sampled_from(DOWN_STREAMS), kind=st.sampled_from(KINDS))
    def put_down(self, stream: str, kind: str) -> None:
        """The hub has something for the box."""
        self.world.hub.put(stream, self.world.record(kind))

    @rule(box=places)
    def box_commits(self, box: int) -> None:
        """A group commit of the box."""
        self._a_box(box).commit()

    @rule(box=places, frames=st.integers(1, 4))
    def box_sends(self, box: int, frames: int) -> None:
        """As many frames as the line took."""
        self._a_box(box).pump(frames)

    @rule()
    def hub_commits(self) -> None:
        """A group commit of the hub; nothing is answered yet."""
        self.world.hub.commit()

    @rule()
    def hub_answers(self) -> None:
        """The answers to what was committed leave."""
        self.world.hub.flush()

    @rule(frames=st.integers(1, 4))
    def hub_sends(self, frames: int) -> None:
        """Down frames leave."""
        self.world.hub.pump(frames)

    @rule(rows=st.integers(1, 5))
    def projectors_run(self, rows: int) -> None:
        """Both ends apply some of what they logged."""
        for _ in range(rows):
            self.world.hub.database.inbox.project()
            for box in self.world.boxes:
                box.card.inbox.project()

    @rule(rounds=st.integers(1, 4))
    def some_rounds(self, rounds: int) -> None:
        """A while in which nothing goes wrong."""
        for _ in range(rounds):
            self.world.deliver_all()
            self.world.work()

    @rule()
    def rest(self) -> None:
        """The network is perfect until all is done."""
        self.world.settle(self.checks.always)
        self.checks.at_rest(everybody_wrote=False)

    # -- the network

    @rule(at=places, count=st.integers(1, 6))
    def deliver(self, at: int, count: int) -> None:
        """Some letters arrive, early or late."""
        for _ in range(min(count, len(self.world.air.letters))):
            self.world.deliver(at % len(self.world.air.letters))

    @precondition(lambda self: self.world.air.letters)
    @rule(at=places, count=st.integers(1, 3))
    def lose(self, at: int, count: int) -> None:
        """Some letters never arrive."""
        letters = self.world.air.letters
        for _ in range(min(count, len(letters))):
            letters.pop(at % len(letters))

    @precondition(lambda self: self.world.air.letters)
    @rule(at=places, to=places)
    def repeat(self, at: int, to: int) -> None:
        """A letter arrives twice, the second time whenever."""
        letters = self.world.air.letters
        letters.insert(to % (len(letters) + 1), letters[at % len(letters)])

    @precondition(lambda self: len(self.world.air.letters) > 1)
    @rule(one=places, other=places)
    def swap(self, one: int, other: int) -> None:
        """Two letters change places."""
        letters = self.world.air.letters
        i, j = one % len(letters), other % len(letters)
        letters[i], letters[j] = letters[j], letters[i]

    @precondition(lambda self: self.world.air.letters)
    @rule(at=places, cut=places)
    def truncate(self, at: int, cut: int) -> None:
        """A letter loses its end."""
        letters = self.world.air.letters
        letter = letters[at % len(letters)]
        shorter = letter.payload[: cut % (len(letter.payload) + 1)]
        letters[at % len(letters)] = letter._replace(payload=shorter)

    @precondition(lambda self: self.world.air.letters)
    @rule(at=places, place=st.integers(0, 1 << 16), bit=st.integers(0, 7))
    def flip(self, at: int, place: int, bit: int) -> None:
        """A bit changes in a frame or in what the hub signed; a hello has TLS alone."""
        letters = self.world.air.letters
        letter = letters[at % len(letters)]
        if "/up/" in letter.topic and "/stream/" not in letter.topic:
            return
        payload = bytearray(letter.payload or b"\0")
        payload[place % len(payload)] ^= 1 << bit
        letters[at % len(letters)] = letter._replace(payload=bytes(payload))

    @rule(seconds=st.sampled_from((0.05, 1.0, 2.5, 30.0)))
    def time_passes(self, seconds: float) -> None:
        """Time-outs come due."""
        self.world.air.now += seconds
        self.world.tick()

    # -- what fails

    @rule()
    def broker_restarts(self) -> None:
        """The broker keeps nothing for us: all that was under way is gone."""
        self.world.air.letters.clear()

    @rule(stream=st.sampled_from(UP_STREAMS))
    def a_burst_is_lost(self, stream: str) -> None:
        """Everything under way is lost, and then the network is perfect."""
        self.some_rounds(2)
        for box in self.world.boxes:
            box.put(stream, self.world.record("note"))
            box.commit()
            box.pump()
        self.world.air.letters.clear()
        self.rest()

    @rule(box=places, group=st.sampled_from(Group))
    def connection_resets(self, box: int, group: Group) -> None:
        """One session of a box begins anew."""
        self._a_box(box).connect(group)

    @rule(box=places, will=st.booleans())
    def box_crashes(self, box: int, will: bool) -> None:
        """A power cut at the clinic, with or without the broker noticing."""
        self.world.crash_box(box % len(self.world.boxes), will=will)

    @rule()
    def hub_crashes(self) -> None:
        """A power cut at the hub, wherever it was."""
        self.world.crash_hub()

    @rule(when=st.sampled_from(("heard", "answered", "committed", "told")),
          stream=st.sampled_from(UP_STREAMS))  # fmt: skip
    def hub_crashes_at_work(self, when: str, stream: str) -> None:
        """A power cut at the hub at a chosen point of an otherwise perfect round."""
        hub = self.world.hub
        self.some_rounds(2)
        for box in self.world.boxes:
            box.put(stream, self.world.record("note"))
            box.commit()
            box.pump()
        self.world.deliver_all()
        if when != "heard":
            if when != "answered":
                hub.commit()
            if when != "committed":
                hub.flush()
                self.world.deliver_all()
        self.world.crash_hub()

    @rule(box=places)
    def card_is_imaged(self, box: int) -> None:
        """Somebody copies a card."""
        self.world.images.append(self._a_box(box).card.copy())

    @precondition(lambda self: self.world.images)
    @rule(box=places, image=places)
    def card_is_restored(self, box: int, image: int) -> None:
        """Somebody puts an old copy back."""
        image %= len(self.world.images)
        self.world.restore_box(box % len(self.world.boxes), self.world.images[image])

    @precondition(lambda self: len(self.world.boxes) == 1)
    @rule(hardware=st.sampled_from(("board-0", "board-1")))
    def card_is_cloned(self, hardware: str) -> None:
        """Two boxes live under one name, on boards that can be told apart or not."""
        self.world.clone_box(hardware)

    @precondition(lambda self: len(self.world.boxes) == 1)
    @rule(stream=st.sampled_from(UP_STREAMS))
    def twin_wakes_and_both_write(self, stream: str) -> None:
        """Both boxes stand at the same place and go on from it, one with more than the other."""
        self.some_rounds(2)
        self.world.clone_box("board-0")
        self.some_rounds(2)
        for box in self.world.boxes:
            for _ in range(box.number + 1):
                box.put(stream, self.world.record("note"))
        self.some_rounds(2)

    @rule(box=places)
    def card_is_moved(self, box: int) -> None:
        """The card wakes up in another machine."""
        found = self._a_box(box)
        found.hardware += "'"
        self.world.crash_box(found.number)

    @rule()
    def hub_is_backed_up(self) -> None:
        """What the hub holds is safe now."""
        self.world.back_up()

    @precondition(lambda self: not self.world.hub.at_once)
    @rule()
    def hub_is_restored(self) -> None:
        """The hub goes back to its last backup."""
        self.world.restore_hub()

    @rule(which=places)
    def hub_is_lost(self, which: int) -> None:
        """The hub goes back further than it promised."""
        backups = self.world.old_backups
        self.world.lose_hub(backups[which % len(backups)])

    @rule(which=places, stream=st.sampled_from(UP_STREAMS))
    def hub_is_lost_at_night(self, which: int, stream: str) -> None:
        """All is at rest; the hub is lost, the boxes connect anew, and only then go on writing."""
        for box in self.world.boxes:
            box.put(stream, self.world.record("note"))
        self.some_rounds(4)
        self.hub_is_lost(which)
        for box in self.world.boxes:
            for group in Group:
                box.connect(group)
        self.some_rounds(3)
        for box in self.world.boxes:
            box.put(stream, self.world.record("note"))
        self.rest()

    # -- what must hold

    @invariant()
    def holds(self) -> None:
        """After every step."""
        try:
            self.checks.always()
        except BaseException:
            self.failed = True
            raise

    def teardown(self) -> None:
        """Heal everything, let it come to rest, write to every stream, let it rest again."""
        if self.failed:
            return
        self.rest()
        for box in self.world.boxes:
            for stream in dict.fromkeys((*box.card.outbox.lines, "alarm", "telemetry")):
                box.put(stream, self.world.record("note"))
        self.world.hub.put(DOWN_STREAMS[0], self.world.record("note"))
        self.world.settle(self.checks.always)
        self.checks.at_rest(everybody_wrote=True)

    def _a_box(self, number: int) -> Box:
        return self.world.boxes[number % len(self.world.boxes)]
