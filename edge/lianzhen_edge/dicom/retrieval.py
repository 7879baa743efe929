"""What workstations may find and fetch: only those that were allowed to, and each look noted."""

from typing import Final

from lianzhen_edge.journal.book import Book
from lianzhen_protocol.imaging import ADMITTED, Instance, Scanner, Study, images_of, scanner_key
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.errors import LianzhenError

from .services.said import Fetched, Found, Piece, Sought
from .shelf import Shelf

MOST_STUDIES: Final = 1000
"""That are looked at where no UID is given, the newest first."""
MOST_IMAGES: Final = 5000
"""Of one retrieval."""


class QueryNotAllowed(LianzhenError):
    """It may send, and was not allowed to look."""

    code = "query-not-allowed"
    http_status = 403


class DestinationUnknown(LianzhenError):
    """No admitted modality has this title and a port that is known."""

    code = "destination-unknown"
    http_status = 404


class RetrievalTooLarge(LianzhenError):
    """More than one retrieval may be of."""

    code = "retrieval-too-large"
    http_status = 413


def find(book: Book, sought: Sought) -> Found:
    """The candidates for a query; it is noted who looked."""
    who = _allowed(book, sought)
    if sought.level == "STUDY":
        book.audit(who, "read", "study-list/query")
        if sought.studies:
            return Found(studies=[one for uid in sought.studies for one in _studies(book, uid)])
        found = book.find(Study, limit=MOST_STUDIES + 1, newest=True)
        return Found(studies=found[:MOST_STUDIES], more=len(found) > MOST_STUDIES)
    studies = _named(book, sought)
    for study in studies:
        book.audit(who, "read", f"{Study.SHEET}/{study.id}")
    return Found(studies=studies, images=[i for one in studies for i in _images(book, one)])


def fetch(book: Book, sought: Sought) -> Fetched:
    """What a retrieval is of, and where to; it is noted whose images leave."""
    who = _allowed(book, sought)
    place = _destination(book, sought) if sought.destination else None
    pieces = []
    for study in _named(book, sought):
        images = [image for image in _images(book, study) if _wanted(image, sought)]
        if images:
            book.audit(who, "export", f"{Study.SHEET}/{study.id}")
        pieces += [_piece(book, image) for image in images]
        if len(pieces) > MOST_IMAGES:
            raise RetrievalTooLarge(f"more than {MOST_IMAGES} images: fetch less at once")
    return Fetched(
        pieces=pieces,
        address=place.address if place else "",
        port=place.port if place else 0,
    )


def _allowed(sheets: Book, sought: Sought) -> str:
    """Who it is in the audit log; QueryNotAllowed."""
    found = sheets.get(Scanner, scanner_key(sheets.node, sought.title, sought.address))
    if found is None or found.state != ADMITTED or not found.may_query:
        raise QueryNotAllowed("this AE may not query: a person allows it on the clinic's console")
    return f"{Scanner.SHEET}/{found.id}"


def _destination(sheets: Sheets, sought: Sought) -> Scanner:
    found = [
        each
        for each in sheets.find(Scanner, state=ADMITTED)
        if each.title == sought.destination and each.port
    ]
    # Where several have one title, the caller's own address is meant.
    found.sort(key=lambda each: each.address != sought.address)
    if not found:
        raise DestinationUnknown("no admitted AE of that title has a port that is known")
    return found[0]


def _studies(sheets: Sheets, uid: str) -> list[Study]:
    return sheets.find_token(Study, "uid", uid)


def _named(sheets: Sheets, sought: Sought) -> list[Study]:
    return [one for uid in dict.fromkeys(sought.studies) for one in _studies(sheets, uid)]


def _images(sheets: Sheets, study: Study) -> list[Instance]:
    """One for each SOP Instance UID: the first, where others came under it."""
    first: dict[str, Instance] = {}
    for image in images_of(sheets, study.id):
        if image.sop_uid not in first or first[image.sop_uid].differs:
            first[image.sop_uid] = image
    return list(first.values())


def _wanted(image: Instance, sought: Sought) -> bool:
    if sought.level == "STUDY":
        return True
    if image.series_uid not in sought.series:
        return False
    return sought.level == "SERIES" or image.sop_uid in sought.images


def _piece(sheets: Sheets, image: Instance) -> Piece:
    shelf = sheets.get(Shelf, image.id)
    return Piece(
        sop_class=image.sop_class,
        sop_uid=image.sop_uid,
        transfer_syntax=image.transfer_syntax,
        segment=-1 if shelf is None else shelf.segment,
        offset=0 if shelf is None else shelf.offset,
    )
