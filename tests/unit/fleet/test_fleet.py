"""The fleet's rules over a real database."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from sqlalchemy import select

from lianzhen_hub.backup.keeping import RESTORE, note_run
from lianzhen_hub.fleet.authority import serial_text, spki_der
from lianzhen_hub.fleet.errors import (
    CertificateMissing,
    CertificateUnknown,
    ClaimExpired,
    ClaimLocked,
    ClaimRefused,
    ClaimUsed,
    CsrRefused,
    KeyReused,
    NodeRevoked,
    NodeUnknown,
    NonceUnknown,
    ReapprovalRefused,
    StaleKey,
    TooManyRequests,
)
from lianzhen_hub.store.tables import claim as claims
from lianzhen_protocol.claims import (
    Claim,
    Issued,
    ReapprovalRequest,
    RekeyRequest,
    claim_key,
    reapproval_challenge,
)
from lianzhen_protocol.errors import ClaimError
from support.fleet import DAY, Parts, csr, new_key, parts, request_for

URL = "https://hub.example:8443"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Parts]:
    async with parts(tmp_path / "hub") as made:
        yield made


async def ask(hub: Parts, claim: Claim, key: ec.EllipticCurvePrivateKey) -> Issued:
    return await hub.fleet.enrol(request_for(claim, hub.fleet.nonce().nonce, key))


def loaded(issued: Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.certificate.encode())


def serial(issued: Issued) -> str:
    return serial_text(loaded(issued).serial_number)


def der(issued: Issued) -> bytes:
    return loaded(issued).public_bytes(serialization.Encoding.DER)


async def rekey(hub: Parts, issued: Issued, key: ec.EllipticCurvePrivateKey) -> Issued:
    return await hub.fleet.rekey(der(issued), RekeyRequest(csr=csr(key)))


# -- claims


async def test_a_claimed_box_becomes_the_hubs_choice_of_node(hub: Parts) -> None:
    claim = await hub.fleet.new_claim("BOX-1", "clinic of Xinhe", URL)
    assert claim.pin == hub.authority.spki_pin
    issued = await ask(hub, claim, new_key())
    assert issued.clinic == "clinic of Xinhe"
    assert loaded(issued).subject.rfc4514_string() == f"CN={issued.node}"
    assert not [e for e in loaded(issued).extensions if "AlternativeName" in type(e.value).__name__]
    assert hub.fleet.is_active(issued.node)


async def test_the_code_is_not_in_the_table_and_its_key_not_in_the_clear(hub: Parts) -> None:
    claim = await hub.fleet.new_claim("BOX-1", "clinic", URL)
    row = await hub.database.read(lambda link: link.execute(select(claims)).one())
    assert claim.code not in row.key_sealed
    assert claim_key(claim.code) not in row.key_sealed
    await ask(hub, claim, new_key())
    row = await hub.database.read(lambda link: link.execute(select(claims)).one())
    assert row.key_sealed is None


async def test_the_claims_key_opens_after_the_key_encryption_key_was_rotated(hub: Parts) -> None:
    claim = await hub.fleet.new_claim("BOX-1", "clinic", URL)
    hub.fleet._keys.rotate()  # type: ignore[attr-defined]
    await ask(hub, claim, new_key())


async def test_a_box_id_that_no_leaflet_carries_is_refused(hub: Parts) -> None:
    with pytest.raises(ClaimError):
        await hub.fleet.new_claim("box 1; drop", "clinic", URL)


async def test_the_same_key_asking_again_gets_the_same_certificate(hub: Parts) -> None:
    claim, key = await hub.fleet.new_claim("BOX-1", "clinic", URL), new_key()
    first, second = await ask(hub, claim, key), await ask(hub, claim, key)
    assert (first.node, first.certificate) == (second.node, second.certificate)
    assert await hub.notices() == []


async def test_another_key_on_a_used_claim_is_refused_and_noticed(hub: Parts) -> None:
    claim = await hub.fleet.new_claim("BOX-1", "clinic", URL)
    await ask(hub, claim, new_key())
    with pytest.raises(ClaimUsed):
        await ask(hub, claim, new_key())
    assert await hub.notices() == ["claim-used"]


async def test_attempts_at_a_used_claim_do_not_flood_the_admin(hub: Parts) -> None:
    claim = await hub.fleet.new_claim("BOX-1", "clinic", URL)
    await ask(hub, claim, new_key())
    for _ in range(30):
        with pytest.raises(ClaimUsed):
            await ask(hub, claim, new_key())
    assert await hub.notices() == ["claim-used", "claim-attacked"]


async def test_unknown_box_and_wrong_code_are_answered_alike(hub: Parts) -> None:
    claim = await hub.fleet.new_claim("BOX-1", "clinic", URL)
    with pytest.raises(ClaimRefused) as wrong:
        await ask(hub, claim._replace(code=bytes(16)), new_key())
    with pytest.raises(ClaimRefused) as unknown:
        await ask(hub, claim._replace(box="BOX-2"), new_key())
    assert str(wrong.value) == str(unknown.value)
    await ask(hub, claim, new_key())


async def test_a_proof_is_for_one_key_and_one_nonce(hub: Parts) -> None:
    claim, key = await hub.fleet.new_claim("BOX-1", "clinic", URL), new_key()
    honest = request_for(claim, hub.fleet.nonce().nonce, key)
    other_key = msgspec.structs.replace(honest, csr=csr(new_key()))
    with pytest.raises(ClaimRefused):
        await hub.fleet.enrol(other_key)
    other_nonce = msgspec.structs.replace(honest, nonce=hub.fleet.nonce().nonce)
    with pytest.raises(ClaimRefused):
        await hub.fleet.enrol(other_nonce)
    with pytest.raises(NonceUnknown):
        await hub.fleet.enrol(honest)


async def test_text_that_is_no_proof_is_refused(hub: Parts) -> None:
    claim = await hub.fleet.new_claim("BOX-1", "clinic", URL)
    honest = request_for(claim, hub.fleet.nonce().nonce, new_key())
    with pytest.raises(ClaimRefused):
        await hub.fleet.enrol(msgspec.structs.replace(honest, proof="ü" * 64))


async def test_only_the_holder_of_the_code_learns_that_a_claim_expired(hub: Parts) -> None:
    claim = await hub.fleet.new_claim("BOX-1", "clinic", URL, valid_days=14)
    hub.clock.by += 15 * DAY
    with pytest.raises(ClaimExpired):
        await ask(hub, claim, new_key())
    with pytest.raises(ClaimRefused):
        await ask(hub, claim._replace(code=bytes(16)), new_key())


async def test_ten_wrong_proofs_lock_a_claim_and_tell_the_admin(hub: Parts) -> None:
    claim = await hub.fleet.new_claim("BOX-1", "clinic", URL)
    for _ in range(12):
        with pytest.raises(ClaimRefused):
            await ask(hub, claim._replace(code=bytes(16)), new_key())
    with pytest.raises(ClaimLocked):
        await ask(hub, claim, new_key())
    assert await hub.notices() == ["claim-attacked"]
    anew = await hub.fleet.new_claim("BOX-1", "clinic", URL)
    await ask(hub, anew, new_key())


async def test_a_lost_card_means_a_new_claim_and_the_old_node_ends(hub: Parts) -> None:
    old = await ask(hub, await hub.fleet.new_claim("BOX-1", "clinic", URL), new_key())
    new = await ask(hub, await hub.fleet.new_claim("BOX-1", "clinic", URL), new_key())
    assert old.node != new.node
    assert not hub.fleet.is_active(old.node)
    revoked = {number for number, _ in await hub.fleet.revoked_serials()}
    assert revoked == {loaded(old).serial_number}
    assert await hub.notices() == ["node-revoked"]


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa", "p384", "ed25519"],
)
async def test_only_p_256_is_certified(hub: Parts, key: object) -> None:
    claim = await hub.fleet.new_claim("BOX-1", "clinic", URL)
    honest = request_for(claim, hub.fleet.nonce().nonce, new_key())
    with pytest.raises(CsrRefused, match="P-256"):
        await hub.fleet.enrol(msgspec.structs.replace(honest, csr=csr(key)))


async def test_a_request_for_somebody_elses_key_is_refused(hub: Parts) -> None:
    claim = await hub.fleet.new_claim("BOX-1", "clinic", URL)
    honest = request_for(claim, hub.fleet.nonce().nonce, new_key())
    raw = bytearray(x509.load_pem_x509_csr(honest.csr.encode()).public_bytes(
        serialization.Encoding.DER))  # fmt: skip
    raw[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(raw)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(CsrRefused, match="own key"):
        await hub.fleet.enrol(msgspec.structs.replace(honest, csr=forged.decode()))


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\nAA\n"])
async def test_what_is_no_request_is_refused(hub: Parts, text: str) -> None:
    claim = await hub.fleet.new_claim("BOX-1", "clinic", URL)
    honest = request_for(claim, hub.fleet.nonce().nonce, new_key())
    with pytest.raises(CsrRefused):
        await hub.fleet.enrol(msgspec.structs.replace(honest, csr=text))


# -- renewal


async def enrolled(hub: Parts) -> tuple[Issued, ec.EllipticCurvePrivateKey]:
    key = new_key()
    issued = await ask(hub, await hub.fleet.new_claim("BOX-1", "clinic", URL), key)
    assert await hub.fleet.used(issued.node, serial(issued))
    return issued, key


async def test_the_first_use_retires_the_certificate_before(hub: Parts) -> None:
    old, _ = await enrolled(hub)
    new = await rekey(hub, old, new_key())
    assert new.node == old.node
    assert await hub.fleet.revoked_serials() == []
    assert not await hub.fleet.used(old.node, serial(old))
    assert await hub.fleet.used(new.node, serial(new))
    assert not await hub.fleet.used(new.node, serial(new))
    assert [number for number, _ in await hub.fleet.revoked_serials()] == [
        loaded(old).serial_number
    ]


async def test_a_repeated_renewal_gives_the_same_certificate(hub: Parts) -> None:
    old, _ = await enrolled(hub)
    key = new_key()
    assert (await rekey(hub, old, key)).certificate == (await rekey(hub, old, key)).certificate


async def test_a_stale_key_alarms_once_a_day(hub: Parts) -> None:
    old, _ = await enrolled(hub)
    new = await rekey(hub, old, new_key())
    await hub.fleet.used(new.node, serial(new))
    for _ in range(3):
        with pytest.raises(StaleKey):
            await hub.fleet.used(old.node, serial(old))
        with pytest.raises(StaleKey):
            await rekey(hub, old, new_key())
    assert await hub.notices() == ["stale-key"]
    hub.clock.by += 2 * DAY
    with pytest.raises(StaleKey):
        await hub.fleet.used(old.node, serial(old))
    assert await hub.notices() == ["stale-key", "stale-key"]


async def test_two_copies_of_a_card_cannot_both_renew(hub: Parts) -> None:
    shared, _ = await enrolled(hub)
    original, copy = await rekey(hub, shared, new_key()), await rekey(hub, shared, new_key())
    assert await hub.fleet.used(copy.node, serial(copy))
    with pytest.raises(StaleKey):
        await hub.fleet.used(original.node, serial(original))
    assert await hub.notices() == ["stale-key"]


async def test_a_renewal_needs_a_new_key(hub: Parts) -> None:
    old, key = await enrolled(hub)
    with pytest.raises(KeyReused):
        await rekey(hub, old, key)


async def test_one_node_cannot_have_anothers_key_certified(hub: Parts) -> None:
    mine, _ = await enrolled(hub)
    theirs = new_key()
    await ask(hub, await hub.fleet.new_claim("BOX-2", "clinic", URL), theirs)
    with pytest.raises(KeyReused):
        await rekey(hub, mine, theirs)


async def test_a_certificate_speaks_for_its_own_node_only(hub: Parts) -> None:
    mine, _ = await enrolled(hub)
    other = await ask(hub, await hub.fleet.new_claim("BOX-2", "clinic", URL), new_key())
    with pytest.raises(CertificateUnknown):
        await hub.fleet.used(other.node, serial(mine))
    with pytest.raises(CertificateUnknown):
        await hub.fleet.used(mine.node, "1234")


async def test_serials_are_compared_as_numbers(hub: Parts) -> None:
    mine, _ = await enrolled(hub)
    assert not await hub.fleet.used(mine.node, "00" + serial(mine).upper())


async def test_a_renewal_without_or_with_an_unknown_certificate(hub: Parts) -> None:
    with pytest.raises(CertificateMissing):
        await hub.fleet.rekey(None, RekeyRequest(csr=csr(new_key())))
    stranger = hub.authority.issue_node(new_key().public_key(), "n0000000000ab")
    with pytest.raises(CertificateUnknown):
        await hub.fleet.rekey(
            stranger.public_bytes(serialization.Encoding.DER), RekeyRequest(csr=csr(new_key()))
        )


async def test_a_restored_hub_knows_again_what_it_gave_out_after_the_backup(hub: Parts) -> None:
    mine, _ = await enrolled(hub)
    key = new_key()
    later = hub.authority.issue_node(key.public_key(), mine.node)
    shown = later.public_bytes(serialization.Encoding.DER)
    number = f"{later.serial_number:x}"
    with pytest.raises(CertificateUnknown):
        await hub.fleet.used(mine.node, number)
    await hub.database.write(lambda db: note_run(db, RESTORE, 1, "backup", 7))
    assert await hub.fleet.holder(shown) == mine.node
    with pytest.raises(StaleKey):  # the one before it, on an old card
        await hub.fleet.used(mine.node, serial(mine))
    next_key = new_key()
    renewed = await hub.fleet.rekey(shown, RekeyRequest(csr=csr(next_key)))
    assert loaded(renewed).public_key() == next_key.public_key()
    assert "certificate-adopted" in await hub.notices()


async def test_a_box_that_was_enrolled_after_the_backup_is_adopted(hub: Parts) -> None:
    name = "n0000000000ab"
    made = hub.authority.issue_node(new_key().public_key(), name)
    with pytest.raises(NodeUnknown, match="never restored"):
        await hub.fleet.adopt(name, "BX-9", "clinic")
    await hub.database.write(lambda db: note_run(db, RESTORE, 1, "backup", 7))
    with pytest.raises(CertificateUnknown):
        await hub.fleet.used(name, f"{made.serial_number:x}")
    await hub.fleet.adopt(name, "BX-9", "clinic")
    assert hub.fleet.is_active(name)
    assert await hub.fleet.used(name, f"{made.serial_number:x}")
    with pytest.raises(NodeUnknown, match="known already"):
        await hub.fleet.adopt(name, "BX-9", "clinic")


# -- the end, and re-approval


async def test_a_revoked_node_gets_nothing_any_more(hub: Parts) -> None:
    issued, _ = await enrolled(hub)
    await hub.fleet.revoke(issued.node, "stolen")
    assert not hub.fleet.is_active(issued.node)
    assert [number for number, _ in await hub.fleet.revoked_serials()] == [
        loaded(issued).serial_number
    ]
    with pytest.raises(NodeRevoked):
        await hub.fleet.used(issued.node, serial(issued))
    with pytest.raises(NodeRevoked):
        await rekey(hub, issued, new_key())
    assert await hub.notices() == ["node-revoked"]


async def test_there_is_no_such_node_to_revoke_or_approve(hub: Parts) -> None:
    with pytest.raises(NodeUnknown):
        await hub.fleet.revoke("n0000000000ab", "why not")
    with pytest.raises(NodeUnknown):
        await hub.fleet.approve("n0000000000ab")


async def test_an_expired_certificate_leaves_the_list(hub: Parts) -> None:
    issued, _ = await enrolled(hub)
    await hub.fleet.revoke(issued.node, "stolen")
    hub.clock.by += 40 * DAY
    assert await hub.fleet.revoked_serials() == []
    assert (await hub.fleet.sync()).nodes == {issued.node}


def asking(
    hub: Parts, issued: Issued, old: ec.EllipticCurvePrivateKey, new: ec.EllipticCurvePrivateKey
) -> ReapprovalRequest:
    nonce = hub.fleet.nonce().nonce
    challenge = reapproval_challenge(nonce, issued.node, spki_der(new.public_key()))
    return ReapprovalRequest(
        node=issued.node,
        nonce=nonce,
        csr=csr(new),
        certificate=issued.certificate,
        signature=old.sign(challenge, ec.ECDSA(hashes.SHA256())).hex(),
    )


async def test_an_expired_box_waits_for_an_admin_and_keeps_its_node(hub: Parts) -> None:
    issued, old = await enrolled(hub)
    hub.clock.by += 60 * DAY
    new = new_key()
    for _ in range(3):
        assert await hub.fleet.reapprove(asking(hub, issued, old, new)) is None
    assert await hub.notices() == ["reapproval-asked"]
    await hub.fleet.approve(issued.node)
    again = await hub.fleet.reapprove(asking(hub, issued, old, new))
    assert again is not None
    assert again.node == issued.node
    repeated = await hub.fleet.reapprove(asking(hub, issued, old, new))
    assert repeated is not None
    assert repeated.certificate == again.certificate
    assert await hub.fleet.used(again.node, serial(again))


async def test_an_admin_may_say_no(hub: Parts) -> None:
    issued, old = await enrolled(hub)
    new = new_key()
    assert await hub.fleet.reapprove(asking(hub, issued, old, new)) is None
    await hub.fleet.refuse(issued.node)
    with pytest.raises(ReapprovalRefused):
        await hub.fleet.reapprove(asking(hub, issued, old, new))


async def test_without_the_old_key_nobody_is_even_asked(hub: Parts) -> None:
    issued, _ = await enrolled(hub)
    with pytest.raises(ReapprovalRefused):
        await hub.fleet.reapprove(asking(hub, issued, new_key(), new_key()))
    assert await hub.notices() == []


async def test_a_request_with_another_certificate_of_the_same_serial_is_refused(
    hub: Parts,
) -> None:
    issued, old = await enrolled(hub)
    good = asking(hub, issued, old, new_key())
    for bad in (
        msgspec.structs.replace(good, certificate="nothing"),
        msgspec.structs.replace(good, signature="zz"),
        msgspec.structs.replace(good, node="n0000000000ab"),
    ):
        fresh = msgspec.structs.replace(bad, nonce=hub.fleet.nonce().nonce)
        with pytest.raises(ReapprovalRefused):
            await hub.fleet.reapprove(fresh)


async def test_of_two_waiting_keys_the_admin_must_name_one(hub: Parts) -> None:
    issued, old = await enrolled(hub)
    first, second = new_key(), new_key()
    await hub.fleet.reapprove(asking(hub, issued, old, first))
    await hub.fleet.reapprove(asking(hub, issued, old, second))
    with pytest.raises(NodeUnknown, match="copied") as ambiguous:
        await hub.fleet.approve(issued.node)
    assert ambiguous.value.code == "approval-ambiguous"
    named = str(ambiguous.value).rsplit(": ", 1)[1].split(", ")[0]
    await hub.fleet.approve(issued.node, named)
    answers = [await hub.fleet.reapprove(asking(hub, issued, old, k)) for k in (first, second)]
    assert sum(answer is not None for answer in answers) == 1


async def test_an_old_key_cannot_fill_the_admins_list(hub: Parts) -> None:
    issued, old = await enrolled(hub)
    for _ in range(3):
        assert await hub.fleet.reapprove(asking(hub, issued, old, new_key())) is None
    with pytest.raises(TooManyRequests):
        await hub.fleet.reapprove(asking(hub, issued, old, new_key()))


async def test_a_superseded_key_is_an_alarm_not_a_request(hub: Parts) -> None:
    issued, old = await enrolled(hub)
    new = await rekey(hub, issued, new_key())
    await hub.fleet.used(new.node, serial(new))
    with pytest.raises(StaleKey):
        await hub.fleet.reapprove(asking(hub, issued, old, new_key()))
    assert await hub.notices() == ["stale-key"]


async def test_a_renewal_whose_reply_was_lost_needs_no_admin_later(hub: Parts) -> None:
    issued, old = await enrolled(hub)
    new = new_key()
    hub.clock.by += 20 * DAY
    lost = await rekey(hub, issued, new)
    hub.clock.by += 15 * DAY
    found = await hub.fleet.reapprove(asking(hub, issued, old, new))
    assert found is not None
    assert found.certificate == lost.certificate
    assert await hub.notices() == []
