"""Who may see a study at the hub, and that the clinic learns who did."""

import msgspec
import pytest

from lianzhen_hub.consoles.imaging import NoSuchImage, study_for
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.consultation import State
from lianzhen_protocol.imaging import Study, study_key
from support.consultations import EXPERT, story
from support.memory_sheets import MemorySheets

KEY = study_key("n0123456789ab", "1.2.3")


def actor(role: Role, identity: str = EXPERT.id) -> Actor:
    return Actor(id=identity, login="x", name="赵", roles=frozenset({role}))


def sheets(patient_id: str | None = None, **case: object) -> MemorySheets:
    found = MemorySheets()
    consultation = msgspec.structs.replace(story(3), **{"studies": (KEY,), **case})
    found.put(consultation)
    owner = consultation.patient_id if patient_id is None else patient_id
    found.put(Study(id=KEY, node="n0123456789ab", uid="1.2.3", patient_id=owner))
    return found


def test_the_expert_on_the_case_and_an_admin() -> None:
    for one in (actor(Role.EXPERT), actor(Role.ADMIN, "f" * 32)):
        assert study_for(sheets(), one, KEY).id == KEY


@pytest.mark.parametrize(
    ("found", "one"),
    [
        (sheets(), actor(Role.EXPERT, "e" * 32)),  # another expert
        (sheets(expert=None), actor(Role.EXPERT)),  # not on it any more
        (sheets(studies=()), actor(Role.EXPERT)),  # it was not sent along
        (sheets(state=State.CANCELLED), actor(Role.EXPERT)),
        (sheets(patient_id="a" * 32), actor(Role.EXPERT)),  # it was another patient's, after all
        (sheets(patient_id=""), actor(Role.EXPERT)),
        (sheets(), actor(Role.PATIENT)),
    ],
)
def test_nobody_else(found: MemorySheets, one: Actor) -> None:
    with pytest.raises(NoSuchImage):
        study_for(found, one, KEY)
    with pytest.raises(NoSuchImage):
        study_for(found, actor(Role.ADMIN), "0" * 32)
