"""An expert saw what was at the hub when they looked, and the clinic is shown no more than that."""

import pytest

from lianzhen_edge.clinic.imaging import shown
from lianzhen_hub.imaging import meanings
from lianzhen_protocol import imaging
from lianzhen_protocol.imaging import ImageReceived, Instance, Study, StudySeen
from lianzhen_protocol.records import Body
from support.memory_sheets import MemorySheets
from unit.protocol.test_imaging import NODE, manifest


class Page(MemorySheets):
    """As much of the hub's page as it takes to look at a study."""

    now_ms = 9

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Body] = []

    def send(self, _node: str, _stream: str, body: Body) -> None:
        self.sent.append(body)


class Both:
    """The sheets of hub and box, each of which is told what the other should tell it."""

    def __init__(self, images: int) -> None:
        self.hub, self.box = Page(), MemorySheets()
        for number in range(images):
            for sheets in (self.hub, self.box):
                imaging.stored(sheets, NODE, manifest(number))

    def arrives(self, image: Instance) -> None:
        body = ImageReceived(instance=image.id, sha256=image.sha256, received_ms=1)
        for sheets in (self.hub, self.box):
            imaging.received(sheets, body)

    def looks(self, who: str) -> None:
        meanings.seen(self.hub, self.hub.find(Study)[0], who)  # type: ignore[arg-type]
        for body in self.hub.sent:
            assert isinstance(body, StudySeen)
            imaging.seen(self.box, body)
        self.hub.sent.clear()

    def at_the_clinic(self) -> tuple[str, str]:
        found = shown(self.box, self.box.find(Study)[0])
        return found.state, found.seen_by


@pytest.fixture
def both() -> Both:
    return Both(2)


def test_an_announcement_that_somebody_looks_at_is_not_seen(both: Both) -> None:
    both.looks("赵")
    for image in both.box.find(Instance):
        both.arrives(image)
    assert both.at_the_clinic() == ("safe", "")


def test_a_study_is_seen_when_somebody_looked_after_all_of_it_had_come(both: Both) -> None:
    first, second = both.box.find(Instance)
    both.arrives(first)
    both.looks("赵")
    assert both.at_the_clinic() == ("stored", "")
    both.arrives(second)
    assert both.at_the_clinic() == ("safe", "")
    both.looks("钱")
    assert both.at_the_clinic() == ("seen", "钱")
    for sheets in (both.hub, both.box):
        imaging.stored(sheets, NODE, manifest(7))
    assert both.at_the_clinic() == ("stored", "")
