"""A patient on a box, for tests whose matter is another."""

from lianzhen_protocol.accounts import Role

from .consoles import People


def registered(clinic: People) -> str:
    """Zhang San, registered at the desk by a nurse; the patient's id."""
    wanted = {"name": "张三", "id_number": "11010519491231002X"}
    reply = clinic.of(Role.NURSE).caller.post("/patients", wanted)
    assert reply.status == 200, reply
    return str(reply.body["id"])
