"""Chinese text in lines and lines on pages: pure arithmetic over widths that are asked for."""

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

# What must not begin a line, and what must not end one (GB/T 15834, 5.1).
_NEVER_FIRST: Final = "，。、；：？！,.;:?!)）]】》〉」』”’％%℃…—"
_NEVER_LAST: Final = "(（[【《〈「『“‘"
_TOKEN: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.,:/+\-_%]*[0-9A-Za-z%]|\s+|.", re.DOTALL)


class Line(NamedTuple):
    """One line of one size; ``space`` is kept free above it unless it is first on its page."""

    text: str
    size: float
    space: float = 0.0

    @property
    def height(self) -> float:
        """Points it takes, its leading included."""
        return self.size * 1.5


def wrap(text: str, room: float, width: Callable[[str], float]) -> list[str]:
    """``text`` in lines no wider than ``room``; a paragraph ends where it was typed.

    A word or number is not broken unless it alone is too wide; punctuation does not begin a line.
    """
    return [line for part in text.split("\n") for line in _paragraph(part, room, width)]


def pages(lines: Iterable[Line], first: float, other: float, last: float) -> list[list[Line]]:
    """Lines on pages of ``first`` and then ``other`` points; ``last`` points stay free on the
    last page, on a page of their own if need be."""
    found: list[list[Line]] = [[]]
    free = first
    for line in lines:
        need = line.height + (line.space if found[-1] else 0.0)
        if need > free and found[-1]:
            found.append([])
            free, need = other, line.height
        found[-1].append(line)
        free -= need
    if last > free:
        found.append([])
    return found


def _paragraph(text: str, room: float, width: Callable[[str], float]) -> list[str]:
    lines, line = [], ""
    for token in _unbroken(text):
        if not line or width(line + token) <= room:
            line += token
        else:
            lines.append(line.rstrip())
            line = token.lstrip()
        while width(line) > room and len(line) > 1:
            head = _fitting(line, room, width)
            lines.append(head)
            line = line[len(head) :]
    return [*lines, line.rstrip()]


def _unbroken(text: str) -> list[str]:
    """Pieces between which a line may end."""
    found: list[str] = []
    for token in _TOKEN.findall(text):
        glued = found and (token[0] in _NEVER_FIRST or found[-1][-1] in _NEVER_LAST)
        if glued and len(found[-1]) < 8:  # a row of exclamation marks is broken after all
            found[-1] += token
        else:
            found.append(token)
    return found


def _fitting(text: str, room: float, width: Callable[[str], float]) -> str:
    end = len(text) - 1
    while end > 1 and width(text[:end]) > room:
        end -= 1
    return text[:end]
