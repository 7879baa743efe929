"""What a box's changed account does at the hub."""

from typing import Final

from lianzhen_hub.page import HubPage, Meanings
from lianzhen_protocol.accounts import AccountChanged, settle
from lianzhen_protocol.records import Record
from lianzhen_protocol.sheets import means


def changed(page: HubPage, _record: Record, body: AccountChanged) -> None:
    """RecordError for an account of another clinic than the author's."""
    settle(page, body.account, page.node)


MEANINGS: Final[Meanings] = dict([means(AccountChanged, changed)])
