"""The box reads its rules of settlement at each start, and keeps them beside its claims."""

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.settings import Settings
from lianzhen_protocol.settling import RuleBook, rule_book
from lianzhen_runtime.rules import load_rules


async def keep(journal: Journal, settings: Settings) -> None:
    """Read the files, and store what they say if it is new."""
    found = RuleBook(
        rules=load_rules(settings.policies),
        region=settings.insurance_region,
        level=settings.expert_level,
    )

    def work(book: Book) -> None:
        if rule_book(book) != found:
            book.put(found)

    await journal.transact(work)
