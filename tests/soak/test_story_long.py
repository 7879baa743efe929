"""The story seven times: each program is killed at every stage of one telling."""

import pytest

from support.lab_fixtures import needs_tool
from support.telling import (
    BROKER,
    DATABASE,
    HUB,
    NAMES,
    VICTIMS,
    Blow,
    enrolled,
    images_come,
    printer_has_it,
    scene,
    tell,
)
from support.telling_checks import holds

pytestmark = [
    *(needs_tool(name) for name in ("storescu", "cupsd", "ippeveprinter", "zbarimg", "pdftotext")),
    pytest.mark.timeout(900),
]


def at_every_stage(victim: str) -> list[Blow]:
    """Before each stage, and in its midst where that is seen. A blank box has no children yet."""
    first = Blow(victim, NAMES[0], None if victim in (HUB, BROKER, DATABASE) else enrolled)
    later = [Blow(victim, stage) for stage in NAMES[1:]]
    return [
        first,
        *later,
        Blow(victim, "send_images", images_come),
        Blow(victim, "print_opinion", printer_has_it),
    ]


@pytest.mark.parametrize("victim", [*VICTIMS, DATABASE])
def test_the_story_survives_one_program_that_dies_at_every_stage(victim: str) -> None:
    with scene(postgres=victim == DATABASE) as story:
        tell(story, at_every_stage(victim))
        holds(story)
