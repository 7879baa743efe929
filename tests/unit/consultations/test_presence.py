"""Who is at a console: an open page, or a recent look at the inbox."""

from lianzhen_hub.consultations.presence import LATELY_MS, Presence


def test_an_open_page_is_presence_and_a_closed_one_is_none() -> None:
    told: list[frozenset[str]] = []
    presence = Presence(lambda: 0)
    presence.on_change(lambda: told.append(presence.online()))
    presence.pages(frozenset({"a", "b"}))
    presence.pages(frozenset({"a", "b"}))
    presence.pages(frozenset({"b"}))
    assert told == [{"a", "b"}, {"b"}]


def test_asking_for_the_inbox_counts_for_a_while() -> None:
    now = [1_000_000]
    told: list[int] = []
    presence = Presence(lambda: now[0])
    presence.on_change(lambda: told.append(now[0]))
    presence.asked("a")
    now[0] += LATELY_MS - 1
    presence.asked("a")
    assert presence.online() == {"a"}
    now[0] += LATELY_MS
    assert presence.online() == frozenset()
    presence.asked("a")
    assert len(told) == 2
