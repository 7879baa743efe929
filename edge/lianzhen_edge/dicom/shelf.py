"""What only the box needs to know of an image: where it lies, and how its preview stands."""

from typing import ClassVar, Final

from lianzhen_protocol.sheets import Index, Sheet

NEW: Final = "new"
"""No preview was tried."""
READY: Final = "ready"
"""It lies here, and is to be sent."""
TOLD: Final = "told"
"""The hub has it."""
NONE: Final = "none"
"""There is none to be had of this image."""


class Shelf(Sheet, frozen=True, kw_only=True):
    """Place of an image in the segment log, under the image's key."""

    SHEET: ClassVar[str] = "shelf"

    id: str
    segment: int
    offset: int
    stored_ms: int
    preview: str = NEW
    preview_sha256: str = ""
    why: str = ""

    def index(self) -> Index:
        return Index(self.id, f"{self.segment:08d}", self.preview, self.stored_ms)


class Held(Sheet, frozen=True, kw_only=True):
    """Something that came and was refused, kept for a person to look at."""

    SHEET: ClassVar[str] = "held-image"

    id: str
    title: str
    address: str
    status: int
    comment: str
    size: int
    segment: int
    offset: int
    at_ms: int

    def index(self) -> Index:
        return Index(self.id, f"{self.segment:08d}", f"{self.status:04x}", self.at_ms)
