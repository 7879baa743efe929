"""What the tests of settlement share: the rules that ship, claims, ids."""

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

import lianzhen_protocol
from lianzhen_protocol import fees
from lianzhen_protocol.fees import Policy, Rules
from lianzhen_protocol.settlement import SettlementPending, Standing, split

SHIPPED = Path(lianzhen_protocol.__file__).parent / "policies" / "guizhou.toml"
RULES: Rules = fees.read_rules([(SHIPPED.name, SHIPPED.read_bytes())])
NODE = "n0123456789ab"
REGION = "520300"
SERVICE_MS = 1_795_500_000_000  # 2026-11-24 in China

fen = st.integers(0, 10**8)
policies = st.builds(
    Policy,
    id=st.just("p"),
    version=st.just(1),
    valid_from=st.just(fees.china_time(0).date()),
    source=st.just("made up"),
    region=st.just(REGION),
    insurance=st.just("resident"),
    ratio_bp=st.integers(0, 10_000),
    visit_cap_fen=fen,
    deductible_fen=fen,
    yearly_cap_fen=st.none() | fen,
)
standings = st.builds(
    Standing, deductible_used_fen=fen, fund_used_fen=fen, account_fen=fen, active=st.booleans()
)


def hex_id(number: int) -> str:
    """An id of 32 digits."""
    return f"{number:032x}"


def claim(number: int = 1, **changes: Any) -> SettlementPending:
    """What a box settles for 25 minutes of a city expert: 297.50 yuan, 70 % to the cap of 200."""
    price = RULES.tariff_for(REGION, "city", SERVICE_MS)
    policy = RULES.policy_for(REGION, "resident", SERVICE_MS)
    assert policy is not None
    total = price.price(25)
    made = SettlementPending(
        claim_id=hex_id(number),
        consultation_id=hex_id(number + (1 << 64)),
        patient_id=hex_id(1 << 65),
        region=REGION,
        insurance="resident",
        level="city",
        minutes=25,
        service_ms=SERVICE_MS,
        tariff_id=price.id,
        tariff_version=price.version,
        policy_id=policy.id,
        policy_version=policy.version,
        account_fen=0,
        split=split(total, total, policy, Standing()),
        settled_by="box",
    )
    return msgspec.structs.replace(made, **changes)
