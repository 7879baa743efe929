"""Both ends of the wire against each other, under everything that a county does to them."""

import pytest
from hypothesis.stateful import run_state_machine_as_test

from support.simulator_rules import EXAMPLES, Schedule, profile
from support.simulator_scripts import SCRIPTS, play


def test_no_schedule_loses_repeats_reorders_or_blocks_a_record() -> None:
    run_state_machine_as_test(Schedule, settings=profile(EXAMPLES, steps=50))


@pytest.mark.parametrize("at_once", [True, False], ids=["replica", "backup"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_directed_schedule_comes_to_rest(name: str, at_once: bool) -> None:
    play(SCRIPTS[name], Schedule(), at_once=at_once)


def test_a_twin_on_another_board_forks_before_it_speaks_and_both_histories_arrive() -> None:
    schedule = Schedule()
    schedule.begin(seed=2, at_once=True, warm=True)
    schedule.put(0, "record", "note", 2)
    schedule.rest()
    schedule.card_is_cloned("board-1")
    schedule.put(0, "record", "note", 2)
    schedule.put(1, "record", "note", 2)
    schedule.rest()
    database = schedule.world.hub.database
    reasons = [parentage.reason for parentage in database.epochs.values() if parentage]
    assert reasons == ["foreign-hardware"]
    assert "forked" in {notice.code for notice in database.notices}
    assert len(set(database.inbox.applied)) == 6


def test_a_hub_that_lost_safe_records_is_told_by_the_fork_of_the_box() -> None:
    schedule = Schedule()
    schedule.begin(seed=3, at_once=True, warm=True)
    schedule.hub_is_lost_at_night(0, "record")
    database = schedule.world.hub.database
    assert [n.code for n in database.notices].count("forked") == 1
    assert any("receiver-behind-safe" in notice.detail for notice in database.notices)


def test_a_restored_card_keeps_what_the_lost_history_had_sent() -> None:
    schedule = Schedule()
    schedule.begin(seed=4, at_once=True, warm=True)
    schedule.card_is_imaged(0)
    schedule.put(0, "record", "note", 3)
    schedule.rest()
    sent = set(schedule.world.hub.database.inbox.applied)
    schedule.card_is_restored(0, 0)
    schedule.put(0, "record", "note", 1)
    schedule.rest()
    database = schedule.world.hub.database
    assert sent < set(database.inbox.applied)
    assert any("histories-differ" in n.detail or "receiver-ahead" in n.detail
               for n in database.notices)  # fmt: skip
