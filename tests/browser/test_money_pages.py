"""Money and audit at both consoles, as people see them: claims come in from a real box."""

from collections import Counter
from typing import Any

import pytest
from playwright.sync_api import expect

from lab import wait_until
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.settlement import SettlementPending
from support.bills import card, new_id, put, put_ten_times, two_claims
from support.browser import Pages, Site, assert_clean
from support.money import REGION
from support.patients import registered

SIZES = ("desktop", "phone")
PATIENT = "ab" * 16  # whom the patient's account is for


@pytest.fixture(scope="module")
def before(site: Site) -> dict[str, int]:
    """What other tests left in the accounts."""
    return accounts(site)


@pytest.fixture(scope="module")
def claims(site: Site, before: dict[str, int]) -> list[SettlementPending]:
    """A bill that the hub agrees with, and one that a box with an old policy made."""
    put(site.box, card(PATIENT), new_id())
    made = two_claims(PATIENT)
    put_ten_times(site.box, made)
    admin = site.centre.of(Role.ADMIN).caller

    def posted() -> bool:
        pages = [admin.get(f"/settlements/{each.claim_id}") for each in made]
        return all(page.status == 200 for page in pages)

    wait_until("both claims are posted", posted)
    return made


def accounts(site: Site) -> dict[str, int]:
    found: Any = site.centre.of(Role.ADMIN).caller.get("/ledger").body["ledger"]
    assert (found["sound"], found["sum_fen"]) == (True, 0)
    return {row["id"]: row["fen"] for row in found["accounts"] if row["fen"]}


def grown(site: Site, before: dict[str, int]) -> Counter[str]:
    """What came to the accounts since."""
    found = Counter(accounts(site))
    found.subtract(before)
    return found


def test_ten_tries_posted_once(
    site: Site, before: dict[str, int], claims: list[SettlementPending]
) -> None:
    found = grown(site, before)
    assert found[f"fund:{REGION}"] == 40_000
    assert found[f"revenue:{site.node}"] == -2 * claims[0].split.total_fen
    assert found[f"due:{site.node}"] == 1_000 - 20_000  # the patient paid too much of the second
    rows = site.centre.of(Role.ADMIN).caller.get("/differences").body["rows"]
    said = {row["said"]["claim_id"]: row["said"]["reason"] for row in rows}
    assert said[claims[1].claim_id] == "policy"
    assert claims[0].claim_id not in said


@pytest.mark.parametrize("size", SIZES)
def test_pages_of_the_hubs_admin(
    hub_page: Pages, claims: list[SettlementPending], size: str
) -> None:
    paths = ["/ledger", "/differences", "/pay", f"/settlements/{claims[1].claim_id}"]
    for path in [*paths, "/audit"]:
        assert_clean(hub_page(Role.ADMIN, path, size))


@pytest.mark.parametrize("size", SIZES)
def test_pages_of_a_patient(hub_page: Pages, claims: list[SettlementPending], size: str) -> None:
    page = hub_page(Role.PATIENT, "/my/bills", size, "en")
    expect(page.get_by_text("297.50").first).to_be_visible()
    expect(page.get_by_text("The hub found otherwise:")).to_be_visible()
    assert_clean(page)
    seen = hub_page(Role.PATIENT, "/my/access", size)
    expect(seen.get_by_role("heading", name="谁看过我的资料")).to_be_visible()
    expect(seen.get_by_role("cell", name="结算").first).to_be_visible()
    assert_clean(seen)


@pytest.mark.parametrize("size", SIZES)
def test_a_nurse_notes_the_insurance(site: Site, clinic_page: Pages, size: str) -> None:
    patient = registered(site.clinic)
    page = clinic_page(Role.NURSE, f"/patients/{patient}/settlement", size)
    page.get_by_text("记录医保信息").first.click()
    assert_clean(page)
    page.get_by_label("医保类型").select_option(label="职工医保")
    page.get_by_label("个人账户余额").fill("50.5")
    page.get_by_role("button", name="记录医保信息").click()
    expect(page.get_by_text("个人账户余额 50.50")).to_be_visible()
    assert_clean(page)
    assert_clean(clinic_page(Role.NURSE, f"/patients/{patient}/access", size))


def test_pages_of_an_expert_and_of_a_clinics_admin(hub_page: Pages, clinic_page: Pages) -> None:
    assert_clean(hub_page(Role.EXPERT, "/my/pay", "phone"))
    for size in SIZES:
        page = clinic_page(Role.ADMIN, "/audit", size)
        assert_clean(page)


def test_an_admin_takes_a_claim_back_in_the_browser(
    site: Site, before: dict[str, int], hub_page: Pages, claims: list[SettlementPending]
) -> None:
    page = hub_page(Role.ADMIN, f"/settlements/{claims[1].claim_id}", language="en")
    page.get_by_label("Why it is reversed").fill("the wrong policy")
    page.get_by_role("button", name="Reverse").click()
    expect(page.get_by_text("Reversed: the wrong policy")).to_be_visible()
    assert_clean(page)
    found = grown(site, before)
    assert (found[f"fund:{REGION}"], found[f"due:{site.node}"]) == (20_000, 0)
