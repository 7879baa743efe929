"""What a changed account does on the box: its own people, said here or at the hub."""

from typing import Final

from lianzhen_edge.journal.book import Meanings, Page
from lianzhen_protocol.accounts import AccountChanged, settle
from lianzhen_protocol.records import Record
from lianzhen_protocol.sheets import means


def changed(page: Page, _record: Record, body: AccountChanged) -> None:
    """RecordError for an account of another clinic."""
    settle(page, body.account, page.node)


MEANINGS: Final[Meanings] = dict([means(AccountChanged, changed)])
