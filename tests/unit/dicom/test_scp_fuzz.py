"""Hostile callers: never a fault, a leak, or a Success for what does not lie here.

`tests/soak/test_dicom_fuzz_long.py` goes on for longer.
"""

import logging
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab import wait_until
from lianzhen_edge.dicom import scp
from lianzhen_edge.dicom.association import Limits
from support.dicom_fuzz import conversation, descriptors, half_an_image, kept_uids, sound, talk
from support.upper_layer import Line, Scp, echo, line, request, running

SHORT = Limits(artim=2, idle=2, stall=1, grace=2)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scp]:
    with running(tmp_path_factory.mktemp("fuzz"), limits=SHORT) as found:
        yield found


@pytest.fixture(autouse=True)
def faultless(node: Scp, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever came, nothing failed, all is let go of, and the next one is served."""
    yield
    wait_until("all have gone", lambda: node.server.connections == 0)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
    wait_until("an echo", lambda: _is_served(node))
    wait_until("he has gone too", lambda: node.server.connections == 0)


def _is_served(node: Scp) -> bool:
    """Not within the little time that this server gives, if the machine is very busy."""
    try:
        with line(node.port) as caller:
            caller.say(echo())
            return caller.status() == 0
    except (AssertionError, OSError):
        return False


def test_sound_conversations_are_kept_whole(node: Scp) -> None:
    stored = [uid for seed in range(5) for uid in talk(node, sound(random.Random(seed)))]
    assert stored
    assert set(stored) <= kept_uids(node)


def test_mutated_conversations_leave_nothing_behind(node: Scp) -> None:
    for seed in range(3):  # what is made once is made
        talk(node, conversation(random.Random(-1 - seed)))
    wait_until("all have gone", lambda: node.server.connections == 0)
    before, threads = descriptors(), threading.active_count()
    stored = [uid for seed in range(150) for uid in talk(node, conversation(random.Random(seed)))]
    assert set(stored) <= kept_uids(node)
    wait_until("all have gone", lambda: node.server.connections == 0)
    wait_until("threads have ended", lambda: threading.active_count() <= threads)
    assert descriptors() <= before + 1  # a segment that was begun
    assert not list(node.folder.glob(".*"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=400), st.booleans())
def test_any_bytes_before_or_within_an_association(node: Scp, said: bytes, within: bool) -> None:
    assert talk(node, [request(), said] if within else [said]) == []


def test_slow_callers_hold_no_place_for_long(node: Scp, tmp_path: Path) -> None:
    lines = [Line(node.port) for _ in range(scp.MAX_ASSOCIATIONS)]
    for number, each in enumerate(lines):
        each.say(half_an_image() if number % 2 else request()[: number + 1])
    assert all(each.ends() for each in lines)
    for each in lines:
        each.close()


def test_callers_that_vanish_are_forgotten(node: Scp) -> None:
    for _ in range(30):
        caller = Line(node.port)
        caller.say(half_an_image())
        caller.close()
    wait_until("all have gone", lambda: node.server.connections == 0)
    assert not list(node.folder.glob(".*"))
