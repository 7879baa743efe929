"""The log on the box's own disk, within its quota: for whoever comes after a night that went wrong.

Two files a program, the older one dropped when the newer one is half of the quota. A disk that
refuses costs lines, and never the program; they go to standard error all the same.
"""

import contextlib
import logging
import os
from pathlib import Path
from typing import Final

from .files import PRIVATE, private_folder

FOLDER: Final = "log"
"""Below the state folder."""


class LogFile(logging.Handler):
    """Appends each record's line to ``folder/name.jsonl``; both files are below ``quota`` bytes."""

    def __init__(self, folder: Path, name: str, quota: int) -> None:
        super().__init__()
        self._path = folder / f"{name}.jsonl"
        self._before = folder / f"{name}.1.jsonl"
        self._half = quota // 2
        with contextlib.suppress(OSError):
            private_folder(folder)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or let it go."""
        line = f"{self.format(record)}\n".encode()
        with contextlib.suppress(OSError):
            self._append(line)

    def _append(self, line: bytes) -> None:
        # Opened for each line: an operator may move the file away, and there are few of them.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = os.open(self._path, flags, PRIVATE)
        try:
            if os.fstat(descriptor).st_size + len(line) > self._half:
                os.replace(self._path, self._before)
                os.close(descriptor)
                descriptor = os.open(self._path, flags, PRIVATE)
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
