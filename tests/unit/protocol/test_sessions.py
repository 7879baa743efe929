"""Which sessions a hub knows: twins find rest, a restarted program is no twin."""

from lianzhen_protocol.hello import Hello
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import Group
from lianzhen_protocol.sessions import Sessions

NODE = NodeId("n0123456789ab")
E0, E1 = Epoch(bytes(16)), Epoch(b"1" * 16)
FIRST, SECOND = b"a" * 16, b"b" * 16


def greeting(instance: bytes = FIRST, epoch: Epoch = E0, group: Group = Group.URGENT) -> Hello:
    return Hello(
        session=instance[::-1],
        group=group,
        protocols=(1,),
        epoch=epoch,
        parentage=None,
        instance=instance,
        serial="1",
        software="0",
        now_ms=0,
        streams=(),
        down=(),
    )


def test_a_frame_of_an_epoch_without_hello_has_no_session() -> None:
    sessions = Sessions()
    sessions.begin(NODE, greeting())
    assert sessions.find(NODE, Group.URGENT, E0) is not None
    assert sessions.find(NODE, Group.URGENT, E1) is None
    assert sessions.find(NODE, Group.BULK, E0) is None


def test_twins_that_have_forked_do_not_displace_each_other() -> None:
    sessions = Sessions()
    sessions.begin(NODE, greeting(FIRST, E0))
    sessions.begin(NODE, greeting(SECOND, E1))
    assert len(sessions.of(NODE, Group.URGENT)) == 2
    assert sessions.succeeded(NODE) == frozenset()


def test_a_program_that_forks_leaves_its_old_session_behind() -> None:
    sessions = Sessions()
    sessions.begin(NODE, greeting(FIRST, E0))
    sessions.begin(NODE, greeting(FIRST, E1))
    assert [live.epoch for live in sessions.of(NODE, Group.URGENT)] == [E1]


def test_who_was_succeeded_in_its_own_epoch_is_remembered() -> None:
    sessions = Sessions()
    sessions.begin(NODE, greeting(FIRST))
    sessions.begin(NODE, greeting(SECOND))
    assert sessions.succeeded(NODE) == {FIRST}
    sessions.clear()
    assert sessions.succeeded(NODE) == {FIRST}


def test_a_last_will_ends_the_session_that_it_names_and_no_later_one() -> None:
    sessions = Sessions()
    sessions.begin(NODE, greeting(FIRST))
    sessions.begin(NODE, greeting(SECOND))
    assert not sessions.end(NODE, Group.URGENT, FIRST)
    assert sessions.end(NODE, Group.URGENT, SECOND)
    assert list(sessions) == []


def test_a_node_is_complete_with_a_session_of_each_group() -> None:
    sessions = Sessions()
    sessions.begin(NODE, greeting())
    assert not sessions.complete(NODE)
    sessions.begin(NODE, greeting(group=Group.BULK))
    assert sessions.complete(NODE)
    sessions.drop(NODE)
    assert not sessions.complete(NODE)
