"""A process of the benchmark's own: one JSON line in, one JSON line out. Ended by pid."""

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from lab import LabError

_TESTS = Path(__file__).resolve().parents[2]
_PATHS = (str(_TESTS), str(_TESTS.parent / "deploy"))
PATIENCE_SECONDS = 180.0
_END_SECONDS = 10.0


class Child:
    """``python -m module configuration``; it prints a first line when it is ready."""

    def __init__(self, module: str, configuration: dict[str, object], log: Path) -> None:
        self._module = module
        self._log = log
        inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        paths = os.pathsep.join(path for path in (*_PATHS, *inherited) if path)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, json.dumps(configuration)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | {"PYTHONPATH": paths},
            )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"reads {module}", daemon=True)
        self._reader.start()
        self.receive()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, **command: object) -> None:
        """One command; its answer is for ``receive``."""
        if self._process.stdin is None:
            raise LabError(f"{self._module} has no standard input")
        print(json.dumps(command), file=self._process.stdin, flush=True)

    def receive(self) -> Any:
        """The next answer; LabError with its last words if the process ended or is silent."""
        try:
            line = self._lines.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            raise LabError(f"{self._module} is silent for {PATIENCE_SECONDS:.0f} s") from None
        if line is None:
            words = self._log.read_text(errors="replace").splitlines()[-3:]
            raise LabError(f"{self._module} ended: {' | '.join(words)}")
        return json.loads(line)

    def ask(self, **command: object) -> Any:
        """``send`` and ``receive``."""
        self.send(**command)
        return self.receive()

    def end(self) -> None:
        """Terminate it, whatever it does."""
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)


def answer(**values: object) -> None:
    """In the child: one line to whoever started it."""
    print(json.dumps(values), flush=True)
