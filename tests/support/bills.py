"""Claims as a real box's program would send them, put at its socket from outside."""

import secrets
import time

import msgspec

from lab import BoxProgram, ask
from lianzhen_protocol import kinds
from lianzhen_protocol.identity import RecordId, uuid7
from lianzhen_protocol.records import Body
from lianzhen_protocol.settlement import CoverageStated, SettlementPending, Standing, split

from .money import REGION, RULES, SERVICE_MS, claim


def new_id() -> RecordId:
    """A UUIDv7."""
    return uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10))


def put(box: BoxProgram, body: Body, identity: RecordId) -> None:
    """One record; its stream is settlement's."""
    entry = msgspec.msgpack.encode([kinds.encode(body, identity, SERVICE_MS)])
    path = "/records?stream=record.settlement"
    assert ask(box.state / "control.sock", "POST", path, entry).status == 201


def card(patient: str) -> CoverageStated:
    """A resident's card, read before the visit."""
    return CoverageStated(
        patient_id=patient, region=REGION, insurance="resident", account_fen=0, active=True,
        stated_by="nurse", stated_ms=SERVICE_MS - 1,
    )  # fmt: skip


def two_claims(patient: str) -> list[SettlementPending]:
    """One that the hub agrees with, and one by a box that has an old policy."""
    total = claim().split.total_fen
    older = msgspec.structs.replace(RULES.policy[0], visit_cap_fen=1_000)
    paid = split(total, total, older, Standing())
    agreed, wrong = (
        claim(claim_id=new_id().hex(), consultation_id=new_id().hex(), patient_id=patient)
        for _ in range(2)
    )
    return [agreed, msgspec.structs.replace(wrong, split=paid, policy_version=0)]


def put_ten_times(box: BoxProgram, made: list[SettlementPending]) -> None:
    """A box that never heard that its claim was stored asks again."""
    for each in made:
        for _ in range(10):
            put(box, each, RecordId(bytes.fromhex(each.claim_id)))
