"""Structured logging: one JSON object a line on standard error, on transitions, no patient data.

An event is a fixed sentence and fields out of a closed vocabulary. A field that is not in
``FIELDS`` is a programming error and raises: free text from a record, a name or an id card
number cannot slip into a log by way of a new keyword.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .logfile import FOLDER, LogFile

_WORDS = """
    node box clinic group lane stream epoch parent seq first count bytes records attempt wait_s
    code reason status method route address host port pid exit_status signal version instance
    serial not_after serials age_s limit_bytes free_bytes topic error file line level position
    committed safe backlog duration_ms offset_ms service backend
"""
FIELDS: Final = frozenset(_WORDS.split())

Value = str | int | float | bool | None


class Log:
    """One component's events. ``warning`` and above are what an operator should look at."""

    def __init__(self, component: str) -> None:
        self._logger = logging.getLogger(component)
        self._state: dict[str, str] = {}

    def debug(self, event: str, **fields: Value) -> None:
        """A detail, off by default."""
        self._emit(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Value) -> None:
        """Something began, ended or changed."""
        self._emit(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Value) -> None:
        """Something works less well than it should; the program goes on."""
        self._emit(logging.WARNING, event, fields)

    def error(self, event: str, *, exc_info: bool = False, **fields: Value) -> None:
        """Something does not work and a person is needed. ``exc_info`` adds places, not values."""
        if exc_info and (found := sys.exc_info()[1]):
            fields |= _place(found)
        self._emit(logging.ERROR, event, fields)

    def transition(self, subject: str, state: str, *, bad: bool = False, **fields: Value) -> None:
        """Log ``state`` only if ``subject`` was not in it: a fault once, its recovery once."""
        if self._state.get(subject) != state:
            self._state[subject] = state
            self._emit(logging.WARNING if bad else logging.INFO, f"{subject}: {state}", fields)

    def _emit(self, level: int, event: str, fields: dict[str, Value]) -> None:
        if unknown := fields.keys() - FIELDS:
            raise ValueError(f"not in the log's vocabulary: {sorted(unknown)}")
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={"fields": fields})


def _place(error: BaseException) -> dict[str, Value]:
    """Type and place of an exception. Its text stays out: it may quote a record."""
    here = error.__traceback__
    while here is not None and here.tb_next is not None:
        here = here.tb_next
    place: dict[str, Value] = {"error": type(error).__name__}
    if here is not None:
        place |= {"file": here.tb_frame.f_code.co_filename, "line": here.tb_lineno}
    return place


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": when, "level": record.levelname.lower(), "from": record.name}
        # Libraries log free text that may quote anything: only our own events carry text.
        fields = getattr(record, "fields", None)
        if fields is None:
            return json.dumps(line | {"event": "library message", "line": record.lineno})
        return json.dumps(line | {"event": record.getMessage()} | fields, ensure_ascii=False)


def configure(level: str = "info") -> None:
    """Send events to standard error. Libraries are heard from warning level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("lianzhen").setLevel(level.upper())


def keep(state: Path, name: str, quota: int) -> None:
    """Write the same lines to files of ``quota`` bytes together below ``state``; 0: to none."""
    if quota:
        handler = LogFile(state / FOLDER, name, quota)
        handler.setFormatter(_JsonLines())
        logging.getLogger().addHandler(handler)
