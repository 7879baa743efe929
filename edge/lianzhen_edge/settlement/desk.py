"""What the clinic does about money; each runs in a transaction's book."""

from typing import Annotated

import msgspec

from lianzhen_edge.journal.book import Book
from lianzhen_protocol.consultation import Consultation
from lianzhen_protocol.errors import SettlementError
from lianzhen_protocol.fees import Fen, Name
from lianzhen_protocol.people import Patient
from lianzhen_protocol.settlement import (
    STREAM,
    CoverageStated,
    Settlement,
    SettlementPending,
    claim_of,
)
from lianzhen_protocol.settling import RuleBook, rule_book, settle
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.log import Log

BOX = "box"
"""Who settles a consultation that a doctor completed."""

_log = Log("lianzhen.settlement")


class NotSettled(LianzhenError):
    """This consultation cannot be settled as it stands."""

    code = "settlement-not-possible"
    http_status = 409


class NewCoverage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a patient's insurance card says; ``account_yuan`` in yuan with two digits."""

    insurance: Name
    region: Name = ""
    account_yuan: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,8}([.][0-9]{1,2})?$")] = "0"
    active: bool = True


def fen_of(yuan: str) -> Fen:
    """``12.3`` as 1230, by integers alone."""
    whole, _, part = yuan.partition(".")
    return int(whole) * 100 + int(part.ljust(2, "0"))


def state_coverage(book: Book, patient_id: str, said: NewCoverage, by: str) -> None:
    """Note a patient's insurance as read from the card. NotSettled for an unknown patient."""
    if book.get(Patient, patient_id) is None:
        raise NotSettled("there is no such patient", code="patient-unknown")
    rules = _rules(book)
    body = CoverageStated(
        patient_id=patient_id,
        region=said.region or rules.region,
        insurance=said.insurance,
        account_fen=fen_of(said.account_yuan),
        active=said.active,
        stated_by=by,
        stated_ms=book.now_ms,
    )
    book.write(STREAM, body)
    book.audit(by, "change", f"patient/{patient_id}")


def settle_consultation(book: Book, consultation_id: str, by: str) -> Settlement:
    """The claim of a completed consultation: made now, or the one that stands already.

    NotSettled where there is nothing to settle, SettlementError without a price for that day.
    """
    if (standing := claim_of(book, consultation_id)) is not None:
        return standing
    found = book.get(Consultation, consultation_id)
    if found is None or found.completed_ms is None:
        raise NotSettled("only a completed consultation of this clinic is settled")
    claim = settle(book, _rules(book), found, book.new_id(), by)
    book.write(STREAM, claim, claim.claim_id)  # the claim's item is the record's
    book.audit(by, "settle", f"patient/{claim.patient_id}")
    return Settlement(claim=claim)


def say_again(book: Book, claim: SettlementPending, by: str) -> None:
    """Send a claim that the hub had rejected once more: meanwhile it may know the price.

    The claim keeps its id, so the hub posts it once whatever it has of it already.
    """
    book.write(STREAM, claim)
    book.audit(by, "settle", f"patient/{claim.patient_id}")


def after_completion(book: Book, consultation: Consultation) -> None:
    """A completed consultation settles itself.

    Where no rule covers it, care does not wait for money: it stays unsettled, and is shown so.
    """
    try:
        settle_consultation(book, consultation.id, BOX)
    except (SettlementError, NotSettled) as error:
        _log.warning("a consultation was not settled", code=error.code)


def _rules(book: Book) -> RuleBook:
    found = rule_book(book)
    if found is None:
        raise NotSettled("the rules of settlement were not read yet; try again", code="no-rules")
    return found
