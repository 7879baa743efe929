"""Who may see a case at the hub: the expert on it, and nobody else learns that it is there."""

from lianzhen_protocol.accounts import Actor
from lianzhen_protocol.consultation import Consultation, Person, State, Who
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.errors import LianzhenError


class NoSuchCase(LianzhenError):
    """There is no case with this id, or this expert is not on it: the same answer."""

    code = "case-unknown"
    http_status = 404


def case_of(sheets: Sheets, actor: Actor, consultation: str) -> Consultation:
    """The case, for the expert who is on it or is asked; NoSuchCase for everybody else."""
    found = sheets.get(Consultation, consultation)
    if found is None or not may_see(found, actor):
        raise NoSuchCase("there is no such case, or you are not on it")
    return found


def is_on(case: Consultation, actor: Actor) -> bool:
    """Whether this expert has the case, or is asked."""
    return case.expert is not None and case.expert.id == actor.id


def may_see(case: Consultation, actor: Actor) -> bool:
    """Whether this expert may look into it: one that was called off is nobody's any more."""
    return is_on(case, actor) and case.state is not State.CANCELLED


def expert_of(actor: Actor) -> Person:
    """The account as it stands in a history."""
    return Person(id=actor.id, name=actor.name, who=Who.EXPERT)
