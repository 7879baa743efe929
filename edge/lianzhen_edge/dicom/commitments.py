"""Storage commitment at the box: what modalities ask, until they were told.

A request is durable before its modality hears Success. It is decided when every image is safe, by
the hub's receipt, or can never be: only then may the modality delete. Where the modality's row says
so, what is durable at this box is enough. The decision is made anew each time that it is asked for;
what is kept is the request, so that no restart can forget one or tell what is true no more.
"""

import hashlib
from typing import ClassVar, Final

import msgspec

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol.imaging import ADMITTED, SAFE, Instance, Scanner, scanner_key
from lianzhen_protocol.sheets import Index, Sheet, Sheets
from lianzhen_runtime.errors import LianzhenError

from .intake import Intake
from .services.said import Commit, Decided, Failed, Sop

WAITING, TOLD = "waiting", "told"
MOST: Final = 200
"""Decisions that are given out at once."""

NO_SUCH_OBJECT, CLASS_CONFLICT, DUPLICATE = 0x0112, 0x0119, 0x0131
_KEPT_MS: Final = 30 * 86_400_000
"""How long a transaction UID that was told stays used."""


MOST_WAITING: Final = 500
"""Requests of one modality that are not told yet."""


class CommitmentsFull(LianzhenError):
    """It asks and asks, and hears no answer: it has to listen first."""

    code = "commitments-full"
    http_status = 429


class Commitment(Sheet, frozen=True, kw_only=True):
    """A request, as it was made."""

    SHEET: ClassVar[str] = "commitment"

    id: str
    scanner: str
    transaction: str
    images: tuple[Sop, ...]
    at_ms: int
    duplicate: bool = False
    """Its transaction UID is that of another request."""
    state: str = WAITING
    told_ms: int = 0

    def index(self) -> Index:
        return Index(self.id, self.scanner, self.state, self.told_ms or self.at_ms)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        return (("transaction", self.transaction),)


def take(book: Book, said: Commit) -> str:
    """Keep a request; its id. The same one again is the same one."""
    images = tuple(sorted(set(said.images), key=lambda each: (each.sop_uid, each.sop_class)))
    scanner = scanner_key(book.node, said.title, said.address)
    digest = hashlib.sha256(msgspec.json.encode((scanner, said.transaction, images)))
    key = digest.hexdigest()[:32]
    if book.get(Commitment, key) is not None:
        return key
    if len(book.find(Commitment, owner=scanner, state=WAITING, limit=MOST_WAITING)) == MOST_WAITING:
        raise CommitmentsFull(f"{MOST_WAITING} requests wait to be told already")
    same = book.find_token(Commitment, "transaction", said.transaction)
    book.put(
        Commitment(
            id=key,
            scanner=scanner,
            transaction=said.transaction,
            images=images,
            at_ms=book.now_ms,
            duplicate=any(other.scanner == scanner for other in same),
        )
    )
    for old in book.find(Commitment, state=TOLD, limit=10):
        if old.told_ms < book.now_ms - _KEPT_MS:
            book.delete(Commitment, old.id)
    return key


def told(book: Book, key: str) -> None:
    """Its modality has heard."""
    found = book.get(Commitment, key)
    if found is not None and found.state == WAITING:
        book.put(msgspec.structs.replace(found, state=TOLD, told_ms=book.now_ms))


class Commitments:
    """Decides. It remembers what it has seen safe, as nothing safe is ever less."""

    def __init__(self, journal: Journal, intake: Intake) -> None:
        self._journal, self._intake = journal, intake
        self._scans: dict[str, int] = {}
        self._safe: dict[str, set[Sop]] = {}

    def decided(self) -> list[Decided]:
        """Every one that can be told now, the oldest first."""
        found = self._journal.sheets.find(Commitment, state=WAITING)
        return [made for each in found if (made := self._decide(each))][:MOST]

    def one(self, key: str) -> Decided | None:
        """The same of one; None while it waits, or was told."""
        found = self._journal.sheets.get(Commitment, key)
        return self._decide(found) if found and found.state == WAITING else None

    def forget(self, key: str) -> None:
        """It was told."""
        self._scans.pop(key, None)
        self._safe.pop(key, None)

    def _decide(self, asked: Commitment) -> Decided | None:
        sheets = self._journal.sheets
        scanner = sheets.get(Scanner, asked.scanner)
        if scanner is None or scanner.state != ADMITTED:
            return None  # nothing is said to one that was shut out
        safe, failed = self._safe.setdefault(asked.id, set()), []
        for image in asked.images:
            if image in safe:
                continue
            reason = DUPLICATE if asked.duplicate else _reason(sheets, image, scanner.commits_here)
            if reason == NO_SUCH_OBJECT and not self._looked_for(asked.id):
                return None
            if reason is None:
                return None
            if reason:
                failed.append(
                    Failed(sop_class=image.sop_class, sop_uid=image.sop_uid, reason=reason)
                )
            elif not scanner.commits_here:
                safe.add(image)
        missed = {each.sop_uid for each in failed}
        return Decided(
            id=asked.id,
            title=scanner.title,
            address=scanner.address,
            port=scanner.port,
            transaction=asked.transaction,
            done=tuple(each for each in asked.images if each.sop_uid not in missed),
            failed=tuple(failed),
        )

    def _looked_for(self, key: str) -> bool:
        """Whether all that was durable when this was first missed has been taken in since."""
        if key not in self._scans:
            self._scans[key] = self._intake.whole_scan()
        return self._intake.scanned(self._scans[key])


def _reason(sheets: Sheets, image: Sop, here: bool) -> int | None:
    """0: it is committed; why it cannot be; None: not yet."""
    found = sheets.find_token(Instance, "sop", image.sop_uid)
    if not found:
        return NO_SUCH_OBJECT
    if all(each.sop_class != image.sop_class for each in found):
        return CLASS_CONFLICT
    # Others under the same UID may be this modality's: all have to be safe.
    return 0 if here or all(each.state == SAFE for each in found) else None
