"""The MQTT tree: what is built is parsed back, and nothing outside it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import topics
from lianzhen_protocol.errors import TopicError
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.topics import Channel, Direction, Topic

NODE = NodeId("n0123456789ab")
streams = st.from_regex(r"[a-z][a-z0-9._-]{0,63}", fullmatch=True)


@given(st.sampled_from(Direction), streams)
def test_a_stream_topic_comes_back(direction: Direction, stream: str) -> None:
    topic = Topic(NODE, direction, Channel.STREAM, stream)
    assert topics.parse(str(topic)) == topic


@given(st.sampled_from(Direction), streams)
def test_a_broker_of_routing_keys_may_make_levels_of_full_stops(
    direction: Direction, stream: str
) -> None:
    topic = Topic(NODE, direction, Channel.STREAM, stream)
    assert topics.parse(str(topic).replace(".", "/")) == topic


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("channel", [Channel.HELLO, Channel.ACK, Channel.PRESENCE])
def test_the_other_topics_come_back_and_presence_only_goes_up(
    direction: Direction, channel: Channel
) -> None:
    topic = Topic(NODE, direction, channel)
    if channel is Channel.PRESENCE and direction is Direction.DOWN:
        with pytest.raises(TopicError):
            topics.parse(str(topic))
    else:
        assert topics.parse(str(topic)) == topic


@given(st.text(max_size=100))
def test_any_text_is_a_topic_error(text: str) -> None:
    with pytest.raises(TopicError):
        topics.parse(text)


@pytest.mark.parametrize(
    "topic",
    [
        "lz/1",
        "lz/2/n0123456789ab/up/hello",
        "lz/1/n0123456789ab/up",
        "lz/1/n0123456789ab/up/hello/",
        "lz/1/n0123456789ab/up/hello/x",
        "lz/1/n0123456789ab/sideways/hello",
        "lz/1/n0123456789ab/up/stream",
        "lz/1/n0123456789ab/up/stream/",
        "lz/1/n0123456789ab/up/stream/record/Vitals",
        "lz/1/n0123456789ab/up/stream/../hello",
        "lz/1/n0123456789ab/up/stream/+",
        "lz/1/n0123456789ab/up/stream/Vitals",
        "lz/1/n0123456789ab/up/stream/record\n",
        "lz/1/+/up/hello",
        "lz/1/n0123456789ab\x00/up/hello",
        "/lz/1/n0123456789ab/up/hello",
    ],
)
def test_a_hostile_topic_is_a_topic_error(topic: str) -> None:
    with pytest.raises(TopicError):
        topics.parse(topic)


def test_a_box_has_two_lines_of_rights_and_no_topic_two_writers() -> None:
    box = {access: pattern.replace("%u", "+") for access, pattern in topics.ACL_PATTERNS}
    hub = {(access, pattern) for access, pattern in topics.ACL_HUB if pattern.startswith("lz/")}
    assert box == {"write": "lz/1/+/up/#", "read": "lz/1/+/down/#"}
    assert hub == {("read", box["write"]), ("write", box["read"])}


def test_subscriptions_name_one_direction() -> None:
    assert topics.subscription(Direction.UP) == "lz/1/+/up/#"
    assert topics.subscription(Direction.DOWN, NODE) == "lz/1/n0123456789ab/down/#"
