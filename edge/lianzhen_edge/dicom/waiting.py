"""How many images, of how many bytes, only this disk holds: kept in the commit that changes it."""

from typing import Final

from lianzhen_edge.journal.book import Page
from lianzhen_protocol import imaging
from lianzhen_protocol.imaging import SENT, STORED, ImageReceived, ImageStored, Instance
from lianzhen_protocol.joins import patient_of

TALLY: Final = "images"
_ALL: Final = 10_000_000


def begin(page: Page) -> None:
    """Count once what an earlier release left uncounted."""
    if not page.is_counted(TALLY):
        found = [
            image.size
            for state in (STORED, SENT)
            for image in page.find(Instance, state=state, limit=_ALL)
        ]
        page.count(TALLY, len(found), sum(found))


def stored(page: Page, body: ImageStored) -> None:
    """An image came: nobody else has it."""
    begin(page)
    if imaging.stored(page, page.node, body, patient_of(page, body.study)):
        page.count(TALLY, 1, body.size)


def received(page: Page, body: ImageReceived) -> None:
    """The hub's receipt, and nothing before it, takes an image off."""
    begin(page)
    if imaging.received(page, body):
        known = page.get(Instance, body.instance)
        page.count(TALLY, -1, -known.size if known else 0)
