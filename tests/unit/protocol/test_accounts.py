"""Accounts on both sides: two registers, revocation for good, passwords, one-time codes."""

from collections.abc import Iterator
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import accounts
from lianzhen_protocol.accounts import (
    ACTIVE,
    REVOKED,
    Account,
    Profile,
    Role,
    Secret,
    Stamp,
    merged,
    settle,
)
from lianzhen_protocol.errors import RecordError
from support.memory_sheets import MemorySheets

NODE, OTHER = "n0123456789ab", "nabcdefghjkmn"
ID = "0197a3c0000070008000000000000001"


def account(node: str = NODE, roles: tuple[Role, ...] = (Role.NURSE,), **more: object) -> Account:
    made = Account(
        id=ID,
        node=node,
        profile=Profile(login="lin", name="林护士", roles=roles),
        secret=Secret(password="$argon2id$1"),
        profile_stamp=Stamp(1000, "a"),
        secret_stamp=Stamp(1000, "a"),
    )
    return msgspec.structs.replace(made, **more)


def test_a_role_from_the_hub_and_a_password_from_the_clinic_both_survive() -> None:
    first = account()
    clinic = first.with_secret(2000, "b", password="$argon2id$2")
    hub = first.with_profile(1500, "c", roles=(Role.DOCTOR,))
    for found in (merged(clinic, hub), merged(hub, clinic)):
        assert found.secret.password == "$argon2id$2"
        assert found.profile.roles == (Role.DOCTOR,)


def test_a_change_counts_also_if_its_clock_is_behind() -> None:
    first = account(secret_stamp=Stamp(9000, "z"))
    later = first.with_secret(10, "a", must_change=True)
    assert merged(first, later).secret.must_change


def test_equal_times_are_decided_by_the_record() -> None:
    one = account().with_profile(2000, "x", name="甲")
    two = account().with_profile(2000, "y", name="乙")
    assert merged(one, two).profile.name == merged(two, one).profile.name == "乙"


def changes() -> st.SearchStrategy[list[tuple[str, int, str]]]:
    one = st.tuples(
        st.sampled_from(["profile", "secret", "revoke"]),
        st.integers(0, 3000),
        st.text("abcdef", min_size=1, max_size=4),
    )
    return st.lists(one, min_size=1, max_size=6)


def told(found: list[tuple[str, int, str]]) -> Iterator[Account]:
    for kind, ms, record in found:
        match kind:
            case "secret":
                yield account().with_secret(ms, record, password=f"{ms}{record}")
            case "revoke":
                yield account().with_profile(ms, record, status=REVOKED)
            case _:
                yield account().with_profile(ms, record, name=f"{ms}{record}")


@given(changes(), st.randoms())
def test_whatever_the_order_both_sides_agree(
    found: list[tuple[str, int, str]], random: Random
) -> None:
    news = list({(one.profile_stamp, one.secret_stamp): one for one in told(found)}.values())
    shuffled = [*news, *news]
    random.shuffle(shuffled)
    ours, theirs = account(), account()
    for one in news:
        ours = merged(ours, one)
    for one in shuffled:
        theirs = merged(theirs, one)
    assert ours == theirs
    revoked = any(one.profile.status == REVOKED for one in news)
    assert ours.profile.status == (REVOKED if revoked else ACTIVE)


def test_a_box_rules_its_own_people_only() -> None:
    sheets = MemorySheets()
    settle(sheets, account(), NODE)
    for foreign in (account(node=OTHER), account(node="", roles=(Role.ADMIN,))):
        with pytest.raises(RecordError) as refused:
            settle(sheets, foreign, NODE)
        assert refused.value.code == "account-foreign"
    with pytest.raises(RecordError):
        settle(sheets, account(), OTHER)  # known here, as another clinic's
    assert sheets.get(Account, ID) == account()


@pytest.mark.parametrize(("node", "role"), [(NODE, Role.EXPERT), ("", Role.NURSE)])
def test_no_role_is_given_where_it_has_no_place(node: str, role: Role) -> None:
    with pytest.raises(RecordError) as refused:
        settle(MemorySheets(), account(node=node, roles=(role,)))
    assert refused.value.code == "account-role"


def test_an_account_is_found_by_its_login() -> None:
    sheets = MemorySheets()
    settle(sheets, account(), NODE)
    assert [one.id for one in sheets.find_token(Account, "login", "lin")] == [ID]
    assert sheets.find_token(Account, "login", "li") == []


@pytest.mark.parametrize("text", ["li n", "林", "a", "x" * 33, "a/b", "a\n", ""])
def test_what_is_no_login(text: str) -> None:
    with pytest.raises(ValueError, match="a login has"):
        accounts.login_name(text)


def test_a_login_is_folded() -> None:
    assert accounts.login_name(" Ｌin.01 ") == "lin.01"


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "short"),
        ("x" * 129, "long"),
        ("Password123", "common"),
        ("aaaaaaaaaaab", "common"),
        ("i-am-lin-the-nurse", "personal"),
        ("我叫林护士，你好吗啊啊", "personal"),
        ("correct horse battery", ""),
        ("苹果树下的九只白猫头鹰", ""),
    ],
)
def test_passwords_are_judged_by_length_and_a_list(password: str, why: str) -> None:
    assert accounts.weakness(password, "lin", "林护士") == why


# RFC 6238, appendix B: SHA-1, the last six of the eight digits that it prints
@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    secret = accounts.totp_secret(b"12345678901234567890")
    assert accounts.totp_code(secret, seconds // 30) == code
    assert accounts.totp_step(secret, f"{code[:3]} {code[3:]}", seconds * 1000) == seconds // 30


def test_a_code_works_once_and_a_step_early_or_late() -> None:
    secret, step = accounts.totp_secret(bytes(20)), 1000
    code, now_ms = accounts.totp_code(secret, step), step * 30_000
    assert accounts.totp_step(secret, code, now_ms, after=step) is None
    assert accounts.totp_step(secret, code, now_ms + 30_000) == step
    assert accounts.totp_step(secret, code, now_ms - 30_000) == step
    assert accounts.totp_step(secret, code, now_ms + 60_000) is None
    assert accounts.totp_step(secret, "", now_ms) is None
    assert accounts.totp_step(secret, "١٢٣٤٥٦", now_ms) is None


def test_recovery_codes_survive_how_people_type_them() -> None:
    code = accounts.recovery_code(bytes(range(10)))
    typed = code.upper().replace("0", "O").replace("1", "I").replace("-", " ")
    assert accounts.recovery_digest(ID, typed) == accounts.recovery_digest(ID, code)
    assert accounts.recovery_digest("other", code) != accounts.recovery_digest(ID, code)
