"""What an association may be about: which contexts are accepted, in which roles."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from lianzhen_protocol.dicomset import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT

from .dimse import Context
from .pdu import Answered, AssociateRequest, Proposed, Result

VERIFICATION: Final = "1.2.840.10008.1.1"

UNCOMPRESSED: Final = (EXPLICIT, IMPLICIT)
TRANSFER_SYNTAXES: Final = (
    *UNCOMPRESSED,
    BIG_ENDIAN,
    DEFLATED,
    "1.2.840.10008.1.2.5",  # RLE
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70)),  # JPEG
    *(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81)),  # JPEG-LS
    *(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203)),  # JPEG 2000, HTJ2K
    *(f"1.2.840.10008.1.2.4.{number}" for number in (100, 101)),  # MPEG-2
    *(f"1.2.840.10008.1.2.4.{number}" for number in range(102, 109)),  # H.264, H.265
)
"""Of images: stored as they come, never transcoded before the answer."""

_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
"""Below it the standard has its storage classes, with those that it has yet to make."""
_STORAGE_BESIDE: Final = frozenset(
    f"1.2.840.10008.5.1.4.{number}"
    for number in ("34.7", "34.10", "38.1", "39.1", "43.1", "44.1", "45.1")
)
"""RT delivery instructions, hanging protocols, colour palettes, implant templates."""


def is_storage(abstract_syntax: str) -> bool:
    """Whether it is a Storage SOP class."""
    return abstract_syntax.startswith(_STORAGE) or abstract_syntax in _STORAGE_BESIDE


class Agreement(NamedTuple):
    """What was agreed on."""

    answers: tuple[Answered, ...]
    contexts: Mapping[int, Context]
    roles: Mapping[str, tuple[bool, bool]]
    """(the caller as SCU, as SCP), for the classes that it asked about."""


def agree(request: AssociateRequest, services: Iterable[str]) -> Agreement:
    """Storage, Verification and the SOP classes of ``services`` are accepted, each context with
    the first transfer syntax of our list that its caller has. A caller may be the SCP of a storage
    class too, which is where a C-GET's images go.
    """
    known = frozenset(services)
    answers, contexts = [], {}
    for proposed in request.contexts:
        answer = _answer(proposed, _syntaxes(proposed.abstract_syntax, known))
        answers.append(answer)
        if answer.result is Result.ACCEPTED:
            abstract = proposed.abstract_syntax
            may_call = is_storage(abstract) and request.roles.get(abstract, (True, False))[1]
            contexts[answer.id] = Context(answer.id, abstract, answer.transfer_syntax, may_call)
    accepted = {each.abstract_syntax for each in contexts.values()}
    roles = {
        uid: (scu, scp and is_storage(uid))
        for uid, (scu, scp) in request.roles.items()
        if uid in accepted
    }
    return Agreement(tuple(answers), contexts, roles)


def _syntaxes(abstract: str, services: frozenset[str]) -> Sequence[str]:
    if is_storage(abstract):
        return TRANSFER_SYNTAXES
    return UNCOMPRESSED if abstract in services or abstract == VERIFICATION else ()


def _answer(proposed: Proposed, ours: Sequence[str]) -> Answered:
    if not ours:
        return Answered(proposed.id, Result.NO_ABSTRACT_SYNTAX, proposed.transfer_syntaxes[0])
    for syntax in ours:
        if syntax in proposed.transfer_syntaxes:
            return Answered(proposed.id, Result.ACCEPTED, syntax)
    return Answered(proposed.id, Result.NO_TRANSFER_SYNTAX, proposed.transfer_syntaxes[0])
