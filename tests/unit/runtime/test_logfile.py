"""The log's files: within their quota, the newest lines kept; a disk that refuses is no fault."""

import logging
from pathlib import Path

from lianzhen_runtime.logfile import LogFile

QUOTA = 10_000


def said(handler: LogFile, text: str) -> None:
    handler.handle(logging.LogRecord("lianzhen.x", logging.INFO, "", 1, text, None, None))


def test_the_newest_lines_are_kept_and_no_more_than_the_quota(tmp_path: Path) -> None:
    handler = LogFile(tmp_path / "log", "edge", QUOTA)
    for number in range(2000):
        said(handler, f"line {number}")
        if number % 500 == 0:
            assert sum(path.stat().st_size for path in (tmp_path / "log").iterdir()) <= QUOTA
    files = sorted((tmp_path / "log").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert {path.name for path in files} == {"edge.jsonl", "edge.1.jsonl"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    older, newer = (tmp_path / "log" / name for name in ("edge.1.jsonl", "edge.jsonl"))
    lines = (older.read_text() + newer.read_text()).splitlines()
    assert lines == [f"line {number}" for number in range(2000 - len(lines), 2000)]
    assert len(lines) * len("line 1999\n") > QUOTA // 2 - 20


def test_a_disk_that_refuses_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the folder should be")
    handler = LogFile(tmp_path / "log", "edge", QUOTA)
    said(handler, "lost")
    (tmp_path / "log").unlink()
    (tmp_path / "log").mkdir()
    said(handler, "kept")
    assert (tmp_path / "log" / "edge.jsonl").read_text() == "kept\n"
