"""Schedules that chance is slow to find: the same machines, the same checks, chosen steps."""

from collections.abc import Callable
from typing import Final

from .simulator_rules import Schedule

Script = Callable[[Schedule], None]


def hub_loses_power_after(when: str) -> Script:
    """The hub stops at one point of its work with a frame."""

    def script(schedule: Schedule) -> None:
        schedule.hub_crashes_at_work(when, "alarm")

    return script


def hub_forgets_at_night(schedule: Schedule) -> None:
    """What the hub lost is only missed when the box goes on writing."""
    schedule.hub_is_lost_at_night(0, "record")


def twin_wakes(schedule: Schedule) -> None:
    """Two boxes go on from one place."""
    schedule.put(0, "record", "note", 3)
    schedule.twin_wakes_and_both_write("record")


def card_goes_back(schedule: Schedule) -> None:
    """An old image returns after the hub heard more than it holds."""
    schedule.put(0, "record", "note", 2)
    schedule.card_is_imaged(0)
    schedule.put(0, "record", "note", 2)
    schedule.rest()
    schedule.card_is_restored(0, 0)
    schedule.put(0, "record", "note", 1)


def hub_goes_back(schedule: Schedule) -> None:
    """The hub returns to its backup, and a box that has nothing new to say must hear of it."""
    schedule.put(0, "record", "note", 2)
    schedule.rest()
    schedule.hub_is_backed_up()
    schedule.put(0, "record", "note", 2)
    schedule.rest()
    schedule.world.restore_hub()


def burst_is_lost(schedule: Schedule) -> None:
    """A frame vanishes, later ones arrive."""
    schedule.a_burst_is_lost("alarm")


def storm(schedule: Schedule) -> None:
    """A lane with far more than a window before the last lane of its group."""
    schedule.storm(0, "alarm")
    schedule.storm(0, "preview")


SCRIPTS: Final[dict[str, Script]] = {
    **{f"hub loses power: {when}": hub_loses_power_after(when)
       for when in ("heard", "answered", "committed", "told")},
    "hub forgets at night": hub_forgets_at_night,
    "twin wakes": twin_wakes,
    "card goes back": card_goes_back,
    "hub goes back": hub_goes_back,
    "burst is lost": burst_is_lost,
    "storm": storm,
}  # fmt: skip


def play(script: Script, schedule: Schedule, *, at_once: bool) -> None:
    """One script from a fresh start to rest, with every check on the way."""
    schedule.begin(seed=1, at_once=at_once, warm=True)
    script(schedule)
    schedule.holds()
    schedule.teardown()
