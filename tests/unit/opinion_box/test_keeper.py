"""The box judges what comes down, offline: by its own CA, the newest list, and again with each."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from lianzhen_edge.journal.book import Book, Origin
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_edge.opinions import meanings
from lianzhen_edge.opinions.keeper import Opinions
from lianzhen_protocol import kinds
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.identity import NodeId, RecordId, uuid7
from lianzhen_protocol.opinion import OpinionSigned, TrustRevocations
from lianzhen_protocol.opinion_sheets import Opinion, Revocations
from lianzhen_protocol.records import Body, decode
from lianzhen_runtime.keys import FileKeys
from support.signers import DAY, NOW, NOW_MS, TestCa, document, key_of, signed

CA, KEY = TestCa(), key_of(3)
CERTIFICATE = CA.certificate(KEY)
FIRST, SECOND = "0" * 31 + "1", "0" * 31 + "2"


class Ward:
    """A journal, and the hub's word on it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.opinions = Opinions(lambda: journal, lambda: CA.pem, lambda: NOW_MS)

    async def hears(self, body: Body) -> None:
        """A record comes down, and the keeper does what it does."""
        identity = RecordId(uuid7(NOW_MS, secrets.token_bytes(10)))
        record = decode(kinds.encode(body, identity, NOW_MS))

        def work(book: Book) -> None:
            book.origin = Origin.HUB
            MEANINGS[type(body)](book, record, body)

        await self.journal.transact(work)
        await self.opinions.step()

    def opinion(self, identity: str = FIRST) -> Opinion:
        found = self.journal.sheets.get(Opinion, identity)
        assert found
        return found

    def number(self) -> int | None:
        held = self.journal.sheets.get(Revocations, Revocations.KEY)
        return held.number if held else None


@pytest.fixture
async def ward(tmp_path: Path) -> AsyncIterator[Ward]:
    journal = await Journal.open(
        tmp_path / "journal.db",
        NodeId("n0123456789ab"),
        FileKeys(tmp_path / "keys"),
        lambda: NOW_MS,
        meanings=MEANINGS,
    )
    yield Ward(journal)
    await journal.close()


def an_opinion(identity: str = FIRST, amends: str | None = None) -> OpinionSigned:
    return signed(KEY, CERTIFICATE, document(CERTIFICATE, id=identity, amends=amends))


def a_list(number: int, der: bytes | None = None) -> TrustRevocations:
    return TrustRevocations(revocations=der or CA.revocations(number=number))


async def test_an_opinion_is_judged_by_the_list_that_came_before_it(ward: Ward) -> None:
    await ward.hears(an_opinion())
    assert (ward.opinion().state, ward.opinion().standing) == ("signed", "unchecked")
    await ward.hears(a_list(1))
    assert (ward.opinion().state, ward.opinion().standing) == ("signed", "valid")
    verdict = ward.opinions.verdict(ward.opinion())
    assert (verdict.standing, verdict.list_ms) == ("valid", NOW_MS)


async def test_one_changed_byte_is_kept_and_refused(ward: Ward) -> None:
    found = an_opinion()
    changed = found.document.replace("肺炎".encode(), "肺癌".encode())
    assert changed != found.document
    await ward.hears(msgspec.structs.replace(found, document=changed))
    assert (ward.opinion().state, ward.opinion().standing) == ("refused", "changed")


async def test_another_ca_is_refused(ward: Ward) -> None:
    other = TestCa(8).certificate(KEY)
    await ward.hears(signed(KEY, other, document(other, id=FIRST)))
    assert (ward.opinion().state, ward.opinion().standing) == ("refused", "foreign")


async def test_a_later_list_judges_again(ward: Ward) -> None:
    await ward.hears(a_list(1))
    await ward.hears(an_opinion())
    await ward.hears(a_list(2, CA.revocations({0x1001: NOW + DAY}, number=2)))
    assert (ward.opinion().standing, ward.opinion().revoked_ms) == ("valid", NOW_MS + 86_400_000)
    await ward.hears(a_list(3, CA.revocations({0x1001: NOW + DAY}, number=3, leaked=True)))
    assert (ward.opinion().state, ward.opinion().standing) == ("refused", "revoked")


async def test_an_older_list_does_not_bring_a_certificate_back(ward: Ward) -> None:
    await ward.hears(a_list(2, CA.revocations({0x1001: NOW - DAY}, number=2)))
    await ward.hears(an_opinion())
    await ward.hears(a_list(1))
    assert ward.number() == 2
    assert ward.opinion().standing == "revoked"


@pytest.mark.parametrize(
    "der",
    [
        b"rubbish",
        TestCa(8).revocations(number=9),
        CA.revocations(number=9, scope="urn:lianzhen:boxes"),
    ],
)
async def test_a_list_of_somebody_or_something_else_is_forgotten(ward: Ward, der: bytes) -> None:
    await ward.hears(a_list(1))
    await ward.hears(a_list(9, der))
    assert ward.number() == 1
    assert ward.journal.sheets.get(meanings.ArrivedList, meanings.ArrivedList.KEY) is None


async def test_an_amendment_marks_the_first_only_if_it_stands(ward: Ward) -> None:
    await ward.hears(a_list(1))
    await ward.hears(an_opinion())
    forged = msgspec.structs.replace(an_opinion(SECOND, amends=FIRST), signature=bytes(64))
    await ward.hears(forged)
    assert ward.opinion().state == "signed"
    third = "0" * 31 + "3"
    await ward.hears(an_opinion(third, amends=FIRST))
    assert (ward.opinion().state, ward.opinion().amended_by) == ("amended", third)


async def test_the_same_opinion_twice_is_one_and_another_under_its_id_is_held(ward: Ward) -> None:
    await ward.hears(an_opinion())
    await ward.hears(an_opinion())
    other = signed(KEY, CERTIFICATE, document(CERTIFICATE, id=FIRST, advice="别的"))
    with pytest.raises(RecordError, match="another opinion"):
        await ward.hears(other)


@pytest.mark.parametrize("body", [an_opinion(), a_list(1)])
async def test_what_goes_down_cannot_be_said_here(ward: Ward, body: Body) -> None:
    with pytest.raises(RecordError):
        await ward.journal.transact(lambda book: book.write("record.trust", body))


async def test_what_is_no_opinion_is_held(ward: Ward) -> None:
    with pytest.raises(RecordError) as caught:
        await ward.hears(msgspec.structs.replace(an_opinion(), document=b"{}"))
    assert caught.value.code == "opinion-malformed"
