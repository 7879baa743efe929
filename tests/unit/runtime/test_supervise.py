"""Services restart on the faults that they declare, and on no others."""

import asyncio
import logging
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from lianzhen_runtime.mqtt import LinkLost
from lianzhen_runtime.supervise import supervised

HOUR = 3600.0


class Clock:
    """A monotonic clock that sleeping moves; it notes how long each sleep was."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("lianzhen_runtime.supervise.time", made)
    monkeypatch.setattr("lianzhen_runtime.supervise.asyncio", made)
    monkeypatch.setattr("lianzhen_runtime.retry.random", SimpleNamespace(random=lambda: 1.0))
    return made


class Service:
    """Lives for a while and then fails, each time with the next of ``ends``; then it ends well."""

    def __init__(self, clock: Clock, *ends: Exception, lives: float = 0.0) -> None:
        self._clock, self._ends, self._lives = clock, iter(ends), lives
        self.starts = 0

    async def run(self) -> None:
        self.starts += 1
        self._clock.now += self._lives
        if (end := next(self._ends, None)) is not None:
            raise end


async def test_declared_faults_bring_it_back_with_growing_and_capped_waits(clock: Clock) -> None:
    service = Service(clock, *[OSError("x"), TimeoutError(), LinkLost("y"), *[OSError()] * 4])
    await supervised("uplink", service.run, cap=20.0)
    assert service.starts == 8
    assert clock.waits == [1, 2, 4, 8, 16, 20, 20]


async def test_jitter_halves_a_wait_at_most(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lianzhen_runtime.retry.random.random", lambda: 0.0)
    await supervised("uplink", Service(clock, OSError(), OSError()).run, base=2.0)
    assert clock.waits == [1.0, 2.0]


async def test_after_a_healthy_while_the_waits_begin_anew(clock: Clock) -> None:
    await supervised("uplink", Service(clock, *[OSError()] * 4, lives=HOUR).run)
    assert clock.waits == [1.0] * 4


@pytest.mark.parametrize(
    "bug", [ValueError("bug"), KeyError("bug"), ExceptionGroup("g", [OSError()])]
)
async def test_anything_else_ends_the_program(clock: Clock, bug: Exception) -> None:
    service = Service(clock, OSError(), bug)
    with pytest.raises(type(bug)):
        await supervised("uplink", service.run)
    assert service.starts == 2


async def test_a_service_may_declare_other_faults(clock: Clock) -> None:
    await supervised("printer", Service(clock, KeyError()).run, faults=(KeyError,))
    with pytest.raises(OSError, match="not mine"):
        await supervised("printer", Service(clock, OSError("not mine")).run, faults=(KeyError,))


@pytest.fixture
def heard() -> Iterator[list[str]]:
    said: list[str] = []
    logger, handler = logging.getLogger("lianzhen.supervise"), logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)


async def test_a_fault_that_lasts_is_logged_once(clock: Clock, heard: list[str]) -> None:
    await supervised("a service that is flaky", Service(clock, *[OSError()] * 5).run)
    assert heard == ["a service that is flaky: failed, will retry"]


async def test_a_cancelled_service_does_not_come_back() -> None:
    begun = asyncio.Event()

    async def forever() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as services:
        task = services.create_task(supervised("uplink", forever))
        await begun.wait()
        task.cancel()
    assert task.cancelled()
