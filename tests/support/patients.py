"""A patient on a box, for tests whose matter is another."""

from lianzhen_protocol.accounts import Role
from lianzhen_protocol.gb11643 import check_character

from .consoles import People


def registered(clinic: People) -> str:
    """Zhang San, registered at the desk by a nurse; the patient's id."""
    wanted = {"name": "张三", "id_number": "11010519491231002X"}
    reply = clinic.of(Role.NURSE).caller.post("/patients", wanted)
    assert reply.status == 200, reply
    return str(reply.body["id"])


def an_id_number(order: int) -> str:
    """A valid ID number of somebody born on 28 February 1949; ``order`` below 1000."""
    digits = f"52030219490228{order:03d}"
    return digits + check_character(digits)
