"""Two roots side by side: who serves, who issues, who has moved, and what stays of the old one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lianzhen_hub.fleet import rotation
from lianzhen_hub.fleet.authority import Authority
from lianzhen_protocol.claims import RekeyRequest
from lianzhen_runtime.errors import Unavailable
from support.fleet import new_key as make_key
from support.fleet import parts, request_for


def test_the_old_root_serves_and_the_new_one_issues(tmp_path: Path) -> None:
    before = Authority(tmp_path)
    with pytest.raises(Unavailable, match="no new root"):
        rotation.finish(tmp_path, before, [], anyway=False)
    rotation.begin(before)
    both = Authority(tmp_path)
    assert both.following is not None
    assert (both.root, both.spki_pin) == (before.root, before.spki_pin)
    assert both.issue_hub().certificate.issuer == before.root.subject
    issued = both.issue_node(make_key().public_key(), "n0123456789ab")
    issued.verify_directly_issued_by(both.following)
    assert len(x509.load_pem_x509_certificates(both.ca_pem.encode())) == 2
    lists = both.revocation_list([(7, datetime.now(UTC))])
    assert lists.count(b"BEGIN X509 CRL") == 2
    with pytest.raises(Unavailable, match="under way"):
        rotation.begin(both)


def test_after_the_end_only_the_new_root_counts_but_for_opinions(tmp_path: Path) -> None:
    before = Authority(tmp_path)
    rotation.begin(before)
    both = Authority(tmp_path)
    left = [rotation.Straggler("n0123456789ab", "BX-1", "clinic")]
    with pytest.raises(Unavailable, match="1 boxes have not moved yet"):
        rotation.finish(tmp_path, both, left, anyway=False)
    rotation.finish(tmp_path, both, left, anyway=True)
    after = Authority(tmp_path)
    assert (after.root, after.following) == (both.following, None)
    assert x509.load_pem_x509_certificates(after.ca_pem.encode()) == [after.root]
    assert after.anchors == [after.root, before.root]
    assert after.issue_hub().certificate.issuer == after.root.subject
    assert not (tmp_path / "next.pem").exists()


async def test_a_box_has_moved_when_its_certificate_in_use_is_of_the_new_root(
    tmp_path: Path,
) -> None:
    async with parts(tmp_path) as hub:
        claim = await hub.fleet.new_claim("BX-1", "clinic", "https://127.0.0.1:1")
        key = make_key()
        issued = await hub.fleet.enrol(request_for(claim, hub.fleet.nonce().nonce, key))
        serial = x509.load_pem_x509_certificate(issued.certificate.encode()).serial_number
        await hub.fleet.used(issued.node, f"{serial:x}")
        rotation.begin(hub.authority)
    async with parts(tmp_path) as hub:

        async def left() -> list[str]:
            found = await hub.database.read(lambda db: rotation.stragglers(db, hub.authority))
            return [each.node for each in found]

        assert await left() == [issued.node]
        der = x509.load_pem_x509_certificate(issued.certificate.encode())
        csr = request_for(claim, hub.fleet.nonce().nonce, make_key()).csr
        moved = await hub.fleet.rekey(_der(der), RekeyRequest(csr=csr))
        assert moved.ca.count("BEGIN CERTIFICATE") == 2
        assert await left() == [issued.node]  # given out, and not in use
        serial = x509.load_pem_x509_certificate(moved.certificate.encode()).serial_number
        await hub.fleet.used(issued.node, f"{serial:x}")
        assert await left() == []


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
