"""The log: known fields only, transitions once, no text that could be a patient's."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from lianzhen_runtime import log
from lianzhen_runtime.log import Log

PATIENT = "患者张三 110101199003077758"


class Lines:
    """What was written to standard error since the last look."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    def raw(self) -> str:
        found = self._stream.getvalue()
        self._stream.seek(0)
        self._stream.truncate()
        return found

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw().splitlines()]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root, ours = logging.getLogger(), logging.getLogger("lianzhen")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    log.configure()
    yield Lines(stream)
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.fixture
def mine() -> Log:
    return Log("lianzhen.test")


def test_an_event_is_one_json_object_on_one_line(lines: Lines, mine: Log) -> None:
    mine.info("two\nlines 联诊", node="n0123456789ab", count=3)
    (line,) = lines.read()
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "info",
        "from": "lianzhen.test",
        "event": "two\nlines 联诊",
        "node": "n0123456789ab",
        "count": 3,
    }


def test_a_field_outside_the_vocabulary_is_a_bug(lines: Lines, mine: Log) -> None:
    for report in (mine.debug, mine.info, mine.warning, mine.error):
        with pytest.raises(ValueError, match="not in the log's vocabulary: \\['patient'\\]"):
            report("admitted", patient=PATIENT)
    with pytest.raises(ValueError, match="patient"):
        mine.transition("ward", "full", patient=PATIENT)
    assert lines.raw() == ""


def test_details_are_heard_only_where_they_are_asked_for(lines: Lines, mine: Log) -> None:
    mine.debug("a detail")
    assert lines.read() == []
    logging.getLogger("lianzhen").setLevel("DEBUG")
    mine.debug("a detail")
    assert [line["event"] for line in lines.read()] == ["a detail"]


def test_a_fault_is_said_once_and_its_recovery_once(lines: Lines, mine: Log) -> None:
    for _ in range(3):
        mine.transition("disk", "full", bad=True, free_bytes=0)
    for _ in range(3):
        mine.transition("disk", "has space")
    mine.transition("disk", "full", bad=True)
    mine.transition("other disk", "full", bad=True)
    assert [(line["level"], line["event"]) for line in lines.read()] == [
        ("warning", "disk: full"),
        ("info", "disk: has space"),
        ("warning", "disk: full"),
        ("warning", "other disk: full"),
    ]


def test_an_exception_shows_its_type_and_place_and_not_its_text(lines: Lines, mine: Log) -> None:
    try:
        int(PATIENT)
    except ValueError:
        mine.error("a record surprised us", exc_info=True, count=1)
    raw = lines.raw()
    line = json.loads(raw)
    assert (line["error"], line["file"], line["count"]) == ("ValueError", __file__, 1)
    assert line["line"] > 0
    assert "张三" not in raw
    assert "1101" not in raw
    assert "\\u5f20" not in raw


def test_without_an_exception_there_is_no_place(lines: Lines, mine: Log) -> None:
    mine.error("broken", exc_info=True)
    (line,) = lines.read()
    assert line.keys() == {"at", "level", "from", "event"}


def test_libraries_are_heard_without_their_words(lines: Lines) -> None:
    library = logging.getLogger("aiohttp.server")
    library.info("not at all")
    try:
        raise RuntimeError(PATIENT)
    except RuntimeError:
        library.exception("Error handling request for %s", PATIENT)
    raw = lines.raw()
    line = json.loads(raw)
    assert (line["level"], line["from"]) == ("error", "aiohttp.server")
    assert line["event"] == "library message"
    assert "1101" not in raw
