"""Cards of one image, over and over: every history is kept, nobody starves, an admin is told."""

import shutil
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import BoxProgram, HubProgram, Lab, wait_until
from lianzhen_protocol.accounts import Role
from support.consoles import hub_people
from support.lab_fixtures import (
    STREAM,
    HubLedger,
    item,
    notes,
    put_all,
    rows,
)


@pytest.fixture(scope="module")
def hub(place: Lab) -> HubProgram:
    """One hub for all of them."""
    return place.hub().start().wait()


@pytest.fixture(scope="module")
def ledger(hub: HubProgram) -> Iterator[HubLedger]:
    made = HubLedger(hub)
    yield made
    made.close()


class Card:
    """A box whose card can be taken out, copied and put back."""

    def __init__(self, place: Lab, hub: HubProgram, name: str) -> None:
        self.machine = place.folder / f"{name}.serial"
        self.machine.write_text("machine 1")
        self.place, self.hub = place, hub
        self.box = place.box(name, hardware_id_file=str(self.machine)).start()
        self.node = self.box.enrol(hub)

    def copy(self, name: str) -> Path:
        """Stop the box and copy its card."""
        self.box.kill()
        return Path(shutil.copytree(self.box.state, self.box.folder / name, ignore=_sockets))

    def insert(self, image: Path) -> None:
        """The copy instead of the present card, and on."""
        self.box.kill()
        shutil.rmtree(self.box.state)
        shutil.copytree(image, self.box.state)
        self.start()

    def start(self) -> None:
        self.box.start().wait()

    def put(self, count: int, stream: str = STREAM) -> list[bytes]:
        """Put notes and see them through."""
        ids = put_all(self.box, notes(count), stream)
        wait_until("a drained box", self.box.drained)
        return ids

    def told(self) -> Counter[str]:
        """What the admins were told of this box, by code."""
        found = rows(self.hub, "notices")
        return Counter(row["code"] for row in found if row["node"] == self.node)


def _sockets(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name.endswith(".sock")}


@pytest.fixture
def card(place: Lab, hub: HubProgram, request: pytest.FixtureRequest) -> Iterator[Card]:
    """A box of its own for each test."""
    made = Card(place, hub, request.node.name.upper().replace("_", "-")[5:30].strip("-"))
    yield made
    made.box.kill()


def concerned(hub: HubProgram) -> float:
    """Boxes that the hub's metrics call forked."""
    with urllib.request.urlopen(f"http://127.0.0.1:{hub.status_port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if 'concerns{code="forked"}' in line)


def applied(ledger: HubLedger, card: Card, *histories: list[bytes]) -> None:
    """Each history is at the hub once, in its order."""
    wait_until(
        "all histories at the hub",
        lambda: set().union(*histories) <= {*ledger.ids(STREAM, card.node)},
    )
    found = ledger.ids(STREAM, card.node)
    assert max(Counter(found).values()) == 1
    for history in histories:
        mine = {*history}
        assert [identity for identity in found if identity in mine] == history


def test_a_card_restored_twice_keeps_three_histories(card: Card, ledger: HubLedger) -> None:
    before = card.put(5)
    image = card.copy("image")
    card.start()
    first = card.put(4)
    card.insert(image)
    second = card.put(3)
    card.insert(image)
    third = card.put(6)
    applied(ledger, card, before + first, before + second, before + third)
    assert card.told()["forked"] == 2
    (row,) = [row for row in rows(card.hub, "nodes") if row["node"] == card.node]
    assert "forked" in row["concerns"]
    wait_until("a metric that says it", lambda: concerned(card.hub) >= 1)
    page = hub_people(card.hub).of(Role.ADMIN).caller.get("/notices", Accept="text/html").body
    assert "确认只有一台设备在用" in page  # what to do, in words


def test_a_restored_card_with_nothing_to_send_notices_with_its_next_record(
    card: Card, ledger: HubLedger
) -> None:
    card.put(3)
    image = card.copy("image")
    card.start()
    card.put(3)
    card.insert(image)
    wait_until("a box that is online", card.box.online)
    last = card.put(1)
    applied(ledger, card, last)
    assert card.told()["forked"] == 1


def test_two_cards_of_one_image_at_once(card: Card, ledger: HubLedger, place: Lab) -> None:
    """A clone: both boxes speak under one name, and neither may starve or overwrite the other."""
    before = card.put(10)
    twin = BoxProgram(card.box.folder / "twin", "TWIN", hardware_id_file=str(card.machine))
    shutil.copytree(card.copy("image"), twin.state)
    card.start()
    twin.start().wait()
    try:
        wait_until("both online", lambda: card.box.online() and twin.online())
        mine, theirs = [], []
        for _ in range(3):
            mine += put_all(card.box, notes(20))
            theirs += put_all(twin, notes(20))
            wait_until("both drained", lambda: card.box.drained() and twin.drained())
        applied(ledger, card, before + mine, theirs)
        told = card.told()
        assert told["forked"] >= 1
        assert {item(card.box, key)["state"] for key in mine} == {"safe"}
        assert {item(twin, key)["state"] for key in theirs} == {"safe"}
    finally:
        twin.kill()


def test_a_card_without_its_journal_begins_a_new_one(card: Card, ledger: HubLedger) -> None:
    """A disk that lost its file: nothing of the old epoch is continued, and an admin is told."""
    before = card.put(5)
    card.box.stop()
    for path in card.box.state.glob("journal.db*"):
        path.unlink()
    card.start()
    after = card.put(5)
    applied(ledger, card, before, after)
    assert card.told()["journal-replaced"] == 1
