"""What an admin does about money, and the rules that the hub reads at its start."""

import msgspec

from lianzhen_hub.page import HubPage
from lianzhen_hub.settings import Settings
from lianzhen_protocol import postings
from lianzhen_protocol.ledger import Journal
from lianzhen_protocol.settlement import STREAM, Settlement, SettlementReversed, State
from lianzhen_protocol.settling import RuleBook, rule_book
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.rules import load_rules

from . import ledger
from .pay import claw_back


class NoSuchClaim(LianzhenError):
    """The hub has no claim with that id."""

    code = "claim-unknown"
    http_status = 404


def keep_rules(page: HubPage, settings: Settings) -> None:
    """Read the rules' files, and store what they say if it is new. ConfigError for a bad one."""
    found = RuleBook(rules=load_rules(settings.policies), region="")
    if rule_book(page) != found:
        page.put(found)


def reverse(page: HubPage, claim_id: str, reason: str, by: str) -> Settlement:
    """Take a claim back, whole, and with it the expert's pay; once, however often it is asked."""
    known = page.get(Settlement, claim_id)
    if known is None:
        raise NoSuchClaim("the hub has no claim with that id")
    if known.reversal is not None:
        return known
    entered = ledger.of_claim(page.connection, claim_id, Journal.SETTLEMENT)
    ledger.enter(page.connection, postings.reversal_of(entered, page.now_ms))
    claw_back(page, known.claim.consultation_id)
    said = SettlementReversed(
        claim_id=claim_id, reason=reason, reversed_by=by, reversed_ms=page.now_ms
    )
    made = msgspec.structs.replace(known, state=State.REVERSED, reversal=said)
    page.put(made)
    page.audit(by, "reverse", f"patient/{known.claim.patient_id}")
    page.send(known.node, STREAM, said)
    return made
