"""One consultation from the ultrasound to the money, while everything in it is killed."""

from collections.abc import Iterator

import pytest

import story as told
from story import Story
from support.lab_fixtures import needs_tool
from support.telling import (
    BROKER,
    CORE,
    DATABASE,
    HUB,
    LISTENER,
    NAMES,
    SCP,
    TRIAGE,
    Blow,
    enrolled,
    images_come,
    printer_has_it,
    scans,
    scene,
    tell,
)
from support.telling_checks import (
    IMAGES,
    holds,
    image_states,
    in_clear,
    own_states,
    secrets_of,
)

pytestmark = [
    *(needs_tool(name) for name in ("storescu", "cupsd", "ippeveprinter", "zbarimg", "pdftotext")),
    pytest.mark.timeout(300),
]

BLOWS = (
    Blow(CORE, "power_on", enrolled),
    Blow(HUB, "hire"),
    Blow(BROKER, "certify"),
    Blow(HUB, "profile"),
    Blow(CORE, "register"),
    Blow(SCP, "admit_scanner"),
    Blow(SCP, "send_images", images_come),
    Blow(BROKER, "send_images"),
    Blow(LISTENER, "wear"),
    Blow(CORE, "acknowledge"),
    Blow(TRIAGE, "triage"),
    Blow(BROKER, "ask"),
    Blow(DATABASE, "ask"),
    Blow(HUB, "accept"),
    Blow(CORE, "look"),
    Blow(HUB, "look"),
    Blow(DATABASE, "sign"),
    Blow(BROKER, "print_opinion"),
    Blow(CORE, "print_opinion", printer_has_it),
    Blow(HUB, "complete"),
    Blow(DATABASE, "balance"),
    Blow(CORE, "balance"),
    Blow(HUB, "rest"),
)
"""Each program at the stages that need it; every program at every stage is in tests/soak."""

ALONE = (
    Blow(SCP, "send_images", images_come),
    Blow(CORE, "wear"),
    Blow(LISTENER, "acknowledge"),
    Blow(TRIAGE, "triage"),
    Blow(CORE, "ask"),
)
"""What dies at the clinic while there is no line."""


@pytest.fixture(scope="module")
def killed() -> Iterator[Story]:
    """The story, told once through all of these deaths."""
    with scene(postgres=True) as story:
        tell(story, BLOWS)
        yield story


def test_the_story_survives_a_kill_at_each_stage(killed: Story) -> None:
    holds(killed)


def test_nothing_lies_in_the_clear(killed: Story) -> None:
    secrets = secrets_of(killed)
    read = in_clear(scans(killed), secrets)
    assert len(read) >= 5 * len(list(scans(killed).iterdir())), "the search finds nothing at all"
    for program in (killed.hub, killed.box):
        assert (program.state / "keys").is_dir()
        assert in_clear(program.folder, secrets) == []  # its state, its log, its configuration
    for database in killed.lab.databases:
        assert in_clear(database.folder, secrets) == []


def test_the_story_with_the_line_down() -> None:
    """No way to the hub from before the first image until after the request, and deaths besides."""
    with scene() as story:
        tell(story, stages=NAMES[: NAMES.index("send_images")])
        told.cut_line(story)
        tell(story, ALONE, NAMES[NAMES.index("send_images") : NAMES.index("accept")])
        assert own_states(story) == {"stored"}
        assert image_states(story) == ["stored"] * IMAGES
        (row,) = story.at("nurse").get("/consultations")["board"]["open"]
        assert (row["state"], row["waiting"] > 0, row["refused"]) == ("pending", True, 0)
        told.restore_line(story)
        tell(story, stages=NAMES[NAMES.index("accept") :])
        holds(story)
