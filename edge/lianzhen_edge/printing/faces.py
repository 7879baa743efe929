"""TrueType faces with a fallback for each character: a rare hanzi is printed, or refused aloud.

Text is set in the first face that has the character; the large faces of rare hanzi are read only
when one is met. A character in no face is an error: a box on the paper where a name should be
is the one thing that must not happen.
"""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Final

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.pdfdoc import PDFDocument, PDFStream
from reportlab.pdfbase.ttfonts import TTFError, TTFont

from lianzhen_runtime.errors import LianzhenError

_BMP: Final = 0xFFFF


class NoGlyph(LianzhenError):
    """A character that no face here can print."""

    code = "print-no-glyph"
    http_status = 422

    def __init__(self, character: str) -> None:
        super().__init__(
            f"the character {character} (U+{ord(character):04X}) is in none of the printing fonts; "
            "name a font that has it in the setting 'fonts'"
        )
        self.character = character


class NoFace(LianzhenError):
    """A font file is missing or cannot be read."""

    code = "print-no-font"
    http_status = 503


class _Face(TTFont):
    """An embedded face whose text can be copied out again, rare hanzi included.

    The library writes characters beyond U+FFFF into the map from glyphs to text as five digits,
    which no reader understands; they are two surrogates of four (ISO 32000-1, 9.10.3).
    """

    def addObjects(self, doc: PDFDocument) -> None:
        state = self.state.get(doc)
        subsets = [list(subset) for subset in state.subsets] if state else []
        known = set(doc.idToObject)
        super().addObjects(doc)
        made = [name for name in doc.idToObject if name not in known and "toUnicodeCMap" in name]
        for name, subset in zip(made, subsets, strict=True):
            stream = doc.idToObject[name]
            for number, code in enumerate(subset):
                if code > _BMP and isinstance(stream, PDFStream):
                    line, right = f"<{number:02X}> <", chr(code).encode("utf-16-be").hex()
                    stream.content = stream.content.replace(f"{line}{code:04X}>", f"{line}{right}>")


class Faces:
    """Faces in the order of preference, read when they are first needed."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._loaded: list[_Face] = []
        self._lock = Lock()

    def runs(self, text: str) -> list[tuple[str, str]]:
        """``text`` in pieces of (face name, text). NoGlyph for what cannot be printed."""
        found: list[tuple[str, str]] = []
        for character in text:
            name = self._face_of(character).fontName
            if found and found[-1][0] == name:
                found[-1] = (name, found[-1][1] + character)
            else:
                found.append((name, character))
        return found

    def width(self, text: str, size: float) -> float:
        """Points that ``text`` takes."""
        return sum(pdfmetrics.stringWidth(part, face, size) for face, part in self.runs(text))

    def _face_of(self, character: str) -> _Face:
        code = ord(character)
        for at in range(len(self._paths)):
            face = self._loaded[at] if at < len(self._loaded) else self._load(at)
            if face.face.charToGlyph.get(code):
                return face
        raise NoGlyph(character)

    def _load(self, at: int) -> _Face:
        with self._lock:
            while len(self._loaded) <= at:
                path = self._paths[len(self._loaded)]
                try:
                    # The library's registry is the process's; a file is one name in it.
                    face = _Face(f"lz-{path.stem}", str(path))
                except (OSError, TTFError) as error:
                    raise NoFace(f"the font {path} cannot be read; install it") from error
                pdfmetrics.registerFont(face)
                self._loaded.append(face)
            return self._loaded[at]
