"""Images that are whole here and in no backup yet: until then their boxes keep them."""

from typing import ClassVar

from lianzhen_protocol.sheets import Index, Sheet


class ImageUnsafe(Sheet, frozen=True):
    """An image whose receipt waits for a backup."""

    SHEET: ClassVar[str] = "image-unsafe"

    id: str
    node: str
    at_ms: int

    def index(self) -> Index:
        """By the image's id."""
        return Index(self.id, owner=self.node, at_ms=self.at_ms)
