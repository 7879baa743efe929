"""The authority's certificates, judged by OpenSSL where it is OpenSSL that will judge them."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from lianzhen_hub.fleet.authority import Authority, serial_text
from lianzhen_runtime.errors import SecretError
from support.fleet import DAY, MovedClock, new_key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def openssl_verify(authority: Authority, certificate: x509.Certificate, purpose: str) -> str:
    folder = authority._folder
    (folder / "ca.crt").write_text(authority.ca_pem)
    (folder / "list").write_bytes(authority.revocation_list([]))
    leaf = folder / "leaf.crt"
    leaf.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    flags: list[str | Path] = [
        "-x509_strict",
        "-crl_check",
        "-CRLfile",
        folder / "list",
        "-purpose",
        purpose,
    ]
    anchor, place = ("-CAfile", folder / "ca.crt"), ("openssl", "verify")
    done = subprocess.run([*place, *flags, *anchor, leaf], capture_output=True, text=True)
    return "OK" if done.returncode == 0 else done.stderr


def test_openssl_strict_takes_each_for_its_own_purpose(authority: Authority) -> None:
    node = authority.issue_node(new_key().public_key(), "n0000000000ab")
    assert openssl_verify(authority, node, "sslclient") == "OK"
    assert openssl_verify(authority, authority.issue_hub().certificate, "sslserver") == "OK"
    assert openssl_verify(authority, authority.hub_client().certificate, "sslclient") == "OK"


@pytest.mark.parametrize("purpose", ["sslclient", "sslserver"])
def test_the_signing_certificate_opens_no_tls_connection(
    authority: Authority, purpose: str
) -> None:
    verdict = openssl_verify(authority, authority.signer().certificate, purpose)
    assert "unsuitable certificate purpose" in verdict


def test_a_node_is_no_server_and_the_hub_no_client(authority: Authority) -> None:
    node = authority.issue_node(new_key().public_key(), "n0000000000ab")
    assert "purpose" in openssl_verify(authority, node, "sslserver")
    assert "purpose" in openssl_verify(authority, authority.issue_hub().certificate, "sslclient")


def test_a_node_certificate_names_the_node_and_is_backdated(authority: Authority) -> None:
    made = authority.issue_node(new_key().public_key(), "n0000000000ab")
    assert made.subject.rfc4514_string() == "CN=n0000000000ab"
    assert made.not_valid_before_utc <= datetime.now(UTC) - timedelta(minutes=59)
    life = made.not_valid_after_utc - made.not_valid_before_utc
    assert timedelta(days=30) <= life <= timedelta(days=30, hours=2)


def test_a_restart_finds_the_same_authority(tmp_path: Path) -> None:
    first, second = Authority(tmp_path / "ca"), Authority(tmp_path / "ca")
    assert first.spki_pin == second.spki_pin
    assert first.issue_hub(["10.0.0.1"]).certificate == second.issue_hub(["10.0.0.1"]).certificate
    assert first.signer().der == second.signer().der


def test_every_file_is_for_its_owner_only(authority: Authority) -> None:
    authority.issue_hub(), authority.hub_client(), authority.signer()
    files = list(authority._folder.iterdir())
    assert len(files) == 4
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_root_that_others_can_read_is_refused(authority: Authority) -> None:
    (authority._folder / "root.pem").chmod(0o644)
    with pytest.raises(SecretError, match="chmod 600"):
        Authority(authority._folder)


def test_a_damaged_root_is_one_sentence(authority: Authority) -> None:
    (authority._folder / "root.pem").write_bytes(b"nothing")
    with pytest.raises(SecretError, match="restore it from backup"):
        Authority(authority._folder)


@pytest.mark.parametrize(("days", "renewed"), [(0, False), (59, False), (61, True), (400, True)])
def test_the_server_certificate_is_renewed_at_a_third_of_its_life(
    tmp_path: Path, days: int, *, renewed: bool
) -> None:
    clock = MovedClock()
    authority = Authority(tmp_path / "ca", clock)
    before = authority.issue_hub().certificate
    clock.by = days * DAY
    assert (authority.issue_hub().certificate != before) is renewed


def test_another_name_is_another_certificate(authority: Authority) -> None:
    before = authority.issue_hub(["10.0.0.1"])
    after = authority.issue_hub(["10.0.0.1", "hub.example.org"])
    assert before.certificate != after.certificate
    names = after.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == [
        "hub.lianzhen.internal",
        "hub.example.org",
    ]


def test_lists_made_within_a_second_still_follow_each_other(authority: Authority) -> None:
    made = [x509.load_pem_x509_crl(authority.revocation_list([])) for _ in range(3)]
    times = [found.last_update_utc for found in made]
    assert times == sorted(set(times))
    assert all(found.is_signature_valid(authority.root.public_key()) for found in made)  # type: ignore[arg-type]
    assert made[-1].next_update_utc is not None
    assert made[-1].next_update_utc - datetime.now(UTC) > timedelta(days=7)


def test_the_list_names_the_revoked(authority: Authority) -> None:
    node = authority.issue_node(new_key().public_key(), "n0000000000ab")
    listed = authority.revocation_list([(node.serial_number, datetime.now(UTC))])
    found = x509.load_pem_x509_crl(listed)
    assert found.get_revoked_certificate_by_serial_number(node.serial_number) is not None


def test_a_serial_is_hexadecimal_that_fits_its_column(authority: Authority) -> None:
    for _ in range(50):
        made = authority.issue_node(new_key().public_key(), "n0000000000ab")
        text = serial_text(made.serial_number)
        assert int(text, 16) == made.serial_number
        assert len(text) <= 40
