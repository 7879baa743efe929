"""How a query is read and answered, whatever it is about (PS3.4, C.4.1 and K.4.1)."""

from collections.abc import Iterator, Sequence
from typing import Final

from lianzhen_edge.dicom.dimse import (
    CANCEL,
    SUCCESS,
    UNRECOGNISED_OPERATION,
    Field,
    Link,
    Refusal,
    Request,
    Response,
)

from . import matching
from .matching import Attributes

MAX_ANSWERS: Final = 500

PENDING_ANSWER: Final = 0xFF00
TOO_MANY: Final = 0xA700
BROKEN: Final = 0xC000


def asked_by(request: Request, *allowed: Field) -> Attributes:
    """The identifier of a query; Refusal for another operation, or for what is none."""
    if request.field not in allowed:
        raise Refusal(UNRECOGNISED_OPERATION, "this SOP class has no such operation")
    try:
        return matching.read(request.data, request.context.transfer_syntax)
    except matching.QueryBroken as error:
        raise Refusal(BROKEN, str(error)) from error


def answers(
    request: Request,
    link: Link,
    query: Attributes,
    candidates: Sequence[Attributes],
    limit: int = MAX_ANSWERS,
) -> Iterator[Response]:
    """Those that match, one pending response each, then how it ended. Cancelled: at once."""
    said, charset = 0, matching.text(query, matching.CHARSET)
    for candidate in candidates:
        if link.cancelled(request.message_id):
            yield Response(CANCEL)
            return
        if not matching.matches(query, candidate):
            continue
        if said == limit:
            raise Refusal(TOO_MANY, f"more than {limit}: ask for less")
        said += 1
        found = matching.answer(query, candidate)
        syntax = request.context.transfer_syntax
        yield Response(PENDING_ANSWER, data=matching.write(found, syntax, charset))
    yield Response(SUCCESS)
