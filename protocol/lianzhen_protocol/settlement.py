"""Settlement: who pays a visit, what the two sides say about it, and what it comes to; pure.

The order of a split: total, less what is out of scope; less what is left of the year's deductible;
the fund's ratio, rounded down; at most the cap of a visit and what is left of the year's; then the
personal account up to its balance; the rest is cash. The box splits with what it knows and posts
*pending*; the hub splits again with what it knows and posts. Where the two differ, the difference
is an entry of its own: two clinics without a line may both have used up the same yearly cap.
"""

import enum
from typing import Annotated, ClassVar, Final

import msgspec

from .fees import WHOLE, Fen, Name, Policy, Rules
from .records import Body, Milliseconds
from .sheets import Index, Sheet, Sheets

STREAM: Final = "record.settlement"
"""All of it, up and down."""

Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$")]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a patient stands with the insurance when a visit is split."""

    deductible_used_fen: Fen = 0
    fund_used_fen: Fen = 0
    account_fen: Fen = 0
    """Balance of the personal account."""

    active: bool = True
    """False: nobody pays but the patient."""


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Who pays what: ``fund + account + cash = total``.

    ``deductible_fen`` is within what the patient pays, ``in_scope_fen`` within the total.
    """

    total_fen: Fen
    in_scope_fen: Fen
    deductible_fen: Fen
    fund_fen: Fen
    account_fen: Fen
    cash_fen: Fen

    def conserves(self) -> bool:
        """Whether not a fen was made or lost: a peer's split is checked before it is believed."""
        paid = self.fund_fen + self.account_fen + self.cash_fen
        return paid == self.total_fen and self.deductible_fen <= self.in_scope_fen <= paid


def split(total_fen: int, in_scope_fen: int, policy: Policy | None, standing: Standing) -> Split:
    """Split a visit. ``policy`` None: the patient pays it all. ValueError beyond the total."""
    if not 0 <= in_scope_fen <= total_fen:
        raise ValueError(f"{in_scope_fen} fen in scope of a total of {total_fen}")
    scope = deductible = fund = 0
    if policy is not None and standing.active:
        scope = in_scope_fen
        deductible = min(scope, max(0, policy.deductible_fen - standing.deductible_used_fen))
        fund = min((scope - deductible) * policy.ratio_bp // WHOLE, policy.visit_cap_fen)
        if policy.yearly_cap_fen is not None:
            fund = min(fund, max(0, policy.yearly_cap_fen - standing.fund_used_fen))
    account = min(total_fen - fund, standing.account_fen) if standing.active else 0
    return Split(
        total_fen=total_fen,
        in_scope_fen=scope,
        deductible_fen=deductible,
        fund_fen=fund,
        account_fen=account,
        cash_fen=total_fen - fund - account,
    )


# -- what is said


class CoverageStated(Body, frozen=True):
    """A clinic read a patient's insurance card: which fund, and what the account holds."""

    patient_id: Id
    region: Name
    insurance: Name
    account_fen: Fen
    active: bool
    stated_by: str
    stated_ms: Milliseconds


class SettlementPending(Body, frozen=True):
    """A box settled a visit with what it knows; the claim's id makes a retry harmless."""

    claim_id: Id
    consultation_id: Id
    patient_id: Id
    region: Name
    insurance: str
    """Empty for a patient without a known insurance."""

    level: Name
    minutes: Annotated[int, msgspec.Meta(ge=0)]
    service_ms: Milliseconds
    tariff_id: str
    tariff_version: int
    policy_id: str
    policy_version: int
    """0, and no id: no fund pays."""

    account_fen: Fen
    """Balance of the personal account as the clinic read it."""

    split: Split
    settled_by: str
    """Id of the person, or ``box`` where a completed consultation settled itself."""


class SettlementPosted(Body, frozen=True):
    """The hub entered a claim in the ledger: what it says now holds."""

    claim_id: Id
    split: Split
    policy_id: str
    policy_version: int
    posted_ms: Milliseconds


class SettlementDifference(Body, frozen=True):
    """The hub's split is not the box's; both figures stay visible."""

    difference_id: Id
    claim_id: Id
    patient_id: Id
    reason: str
    box: Split
    hub: Split
    found_ms: Milliseconds


class SettlementReversed(Body, frozen=True):
    """A claim was taken back, whole; a correction is a new claim."""

    claim_id: Id
    reason: str
    reversed_by: str
    reversed_ms: Milliseconds


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "settlement.coverage": {1: CoverageStated},
    "settlement.pending": {1: SettlementPending},
    "settlement.posted": {1: SettlementPosted},
    "settlement.difference": {1: SettlementDifference},
    "settlement.reversed": {1: SettlementReversed},
}


# -- what it comes to


class State(enum.StrEnum):
    """Where a claim stands."""

    PENDING = "pending"
    POSTED = "posted"
    DIFFERENCE = "difference"
    """Posted, and the hub's figure is another than the box's."""
    REVERSED = "reversed"


class Reason(enum.StrEnum):
    """Why the hub's split is another: the first of these that is true."""

    PRICE = "price"
    POLICY = "policy"
    YEARLY = "yearly"
    """Deductible or yearly cap: another clinic has used it."""
    ACCOUNT = "account"
    ARITHMETIC = "arithmetic"
    """Same rules, same standing, another result: the box miscalculates."""


class Coverage(Sheet, frozen=True):
    """A patient's insurance as last read."""

    SHEET: ClassVar[str] = "coverage"
    patient_id: str
    region: str
    insurance: str
    account_fen: int
    active: bool
    stated_ms: int

    def index(self) -> Index:
        """One for each patient."""
        return Index(key=self.patient_id, owner=self.patient_id, at_ms=self.stated_ms)


class Settlement(Sheet, frozen=True):
    """A claim: the box's split, and the hub's once it is posted."""

    SHEET: ClassVar[str] = "settlement"
    claim: SettlementPending
    node: str = ""
    """Who settled; empty on the box itself."""

    state: State = State.PENDING
    posted: Split | None = None
    posted_ms: int | None = None
    posted_by_policy: str = ""
    posted_by_version: int = 0
    reversal: SettlementReversed | None = None

    @property
    def id(self) -> str:
        """The claim's."""
        return self.claim.claim_id

    @property
    def split(self) -> Split:
        """What holds: the hub's figure as soon as there is one."""
        return self.posted or self.claim.split

    def index(self) -> Index:
        """By patient, in the order of the visits."""
        return Index(self.id, self.claim.patient_id, self.state, self.claim.service_ms)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        """By consultation too: it has one claim that stands."""
        return (("consultation", self.claim.consultation_id),)


class Difference(Sheet, frozen=True):
    """What the hub's figure differs by: an entry of its own, beside the claim."""

    SHEET: ClassVar[str] = "difference"
    said: SettlementDifference
    node: str = ""

    @property
    def id(self) -> str:
        """Its own."""
        return self.said.difference_id

    def index(self) -> Index:
        """By patient."""
        return Index(self.id, self.said.patient_id, self.said.reason, self.said.found_ms)


def coverage_of(body: CoverageStated) -> Coverage:
    """What a card said, as it is kept."""
    return Coverage(
        patient_id=body.patient_id,
        region=body.region,
        insurance=body.insurance,
        account_fen=body.account_fen,
        active=body.active,
        stated_ms=body.stated_ms,
    )


def standing_of(book: Sheets, patient_id: str, service_ms: int, year: tuple[int, int]) -> Standing:
    """How a patient stands before a visit: coverage as last read, less what stands since.

    ``year`` is the [from, to) in UTC ms that yearly limits count (see ``fees.year_of``). What was
    paid from the account after the card was read is taken off its balance.
    """
    coverage = book.get(Coverage, patient_id)
    if coverage is None:
        return Standing(active=False)
    deductible = fund = drawn = 0
    for each in book.find(Settlement, owner=patient_id, since_ms=year[0]):
        if each.state is State.REVERSED or each.claim.service_ms >= year[1]:
            continue
        deductible += each.split.deductible_fen
        fund += each.split.fund_fen
        if each.claim.service_ms >= coverage.stated_ms:
            drawn += each.split.account_fen
    return Standing(
        deductible_used_fen=deductible,
        fund_used_fen=fund,
        account_fen=max(0, coverage.account_fen - drawn),
        active=coverage.active,
    )


def claim_of(book: Sheets, consultation_id: str) -> Settlement | None:
    """The claim of a consultation that stands, if it was settled."""
    found = book.find_token(Settlement, "consultation", consultation_id)
    return next((each for each in found if each.state is not State.REVERSED), None)


def settle_again(
    claim: SettlementPending, rules: Rules, standing: Standing
) -> tuple[Split, Policy | None]:
    """The split of a claim by other rules and another standing: what the hub does."""
    tariff = rules.tariff_for(claim.region, claim.level, claim.service_ms)
    policy = rules.policy_for(claim.region, claim.insurance, claim.service_ms)
    total = tariff.price(claim.minutes)
    return split(total, total, policy, standing), policy


def reason_of(
    claim: SettlementPending, hub: Split, policy: Policy | None, standing: Standing
) -> Reason:
    """Why ``hub`` is not what the box found."""
    box = claim.split
    if hub.total_fen != box.total_fen:
        return Reason.PRICE
    known = (policy.id, policy.version) if policy is not None else ("", 0)
    if known != (claim.policy_id, claim.policy_version):
        return Reason.POLICY
    if (hub.fund_fen, hub.deductible_fen) != (box.fund_fen, box.deductible_fen):
        alone = Standing(account_fen=standing.account_fen, active=standing.active)
        if split(hub.total_fen, hub.total_fen, policy, alone) != hub:
            return Reason.YEARLY
        return Reason.ARITHMETIC
    return Reason.ACCOUNT if standing.account_fen != claim.account_fen else Reason.ARITHMETIC
