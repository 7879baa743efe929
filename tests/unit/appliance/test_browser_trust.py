"""The box's authority for browsers, judged by OpenSSL and by the library's own verifier."""

import ipaddress
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from lianzhen_edge.appliance.browser_trust import (
    BOX_DOMAIN,
    SERVER_LIFE,
    BrowserAuthority,
    own_addresses,
)
from lianzhen_runtime.errors import SecretError

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)
LAN = ipaddress.ip_address("192.168.3.7")


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> float:
        return self.at.timestamp()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> BrowserAuthority:
    return BrowserAuthority(tmp_path / "browser", clock, "Box-7.clinic.lan")


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.mark.parametrize("name", [BOX_DOMAIN, "box-7.local", "localhost", "192.168.3.7"])
def test_openssl_believes_it_for_the_boxs_own_names(
    authority: BrowserAuthority, tmp_path: Path, name: str
) -> None:
    root = tmp_path / "root.crt"
    root.write_text(authority.pem)
    kind = "-verify_ip" if name[0].isdigit() else "-verify_hostname"
    done = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-purpose", "sslserver"),
            *("-attime", str(int(NOW.timestamp())), "-CAfile", str(root), kind, name),
            str(authority.server([LAN])),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name",
    [
        x509.DNSName("bank.example"),
        x509.DNSName("evil.local"),
        x509.DNSName("lianzhen.internal"),
        x509.DNSName("xbox.lianzhen.internal"),
        x509.IPAddress(ipaddress.ip_address("8.8.8.8")),
        x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
    ],
)
def test_it_cannot_vouch_for_others(authority: BrowserAuthority, name: x509.GeneralName) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    forged = authority._issue(key.public_key(), x509.SubjectAlternativeName([name]))
    store = Store([authority.root])
    policy = PolicyBuilder().store(store).time(NOW)
    subject = x509.DNSName(name.value) if isinstance(name, x509.DNSName) else name
    assert isinstance(subject, x509.DNSName | x509.IPAddress)
    with pytest.raises(VerificationError, match="constraint"):
        policy.build_server_verifier(subject).verify(forged, [])


def test_the_constraints_are_critical_and_it_makes_no_further_authority(
    authority: BrowserAuthority,
) -> None:
    found = authority.root.extensions
    assert found.get_extension_for_class(x509.NameConstraints).critical
    assert found.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_it_is_kept_and_the_certificate_too(
    authority: BrowserAuthority, tmp_path: Path, clock: Clock
) -> None:
    first = certificate(authority.server([LAN]))
    again = BrowserAuthority(tmp_path / "browser", clock, "renamed")
    assert again.fingerprint == authority.fingerprint
    assert certificate(again.server([LAN])) == first
    for path in (tmp_path / "browser").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_it_is_renewed_in_time_and_for_another_address(
    authority: BrowserAuthority, clock: Clock
) -> None:
    first = certificate(authority.server([LAN]))
    clock.at += SERVER_LIFE * 2 / 3 - timedelta(days=2)
    assert certificate(authority.server([LAN])) == first
    clock.at += timedelta(days=3)
    second = certificate(authority.server([LAN]))
    assert second.serial_number != first.serial_number
    moved = certificate(authority.server([ipaddress.ip_address("10.0.0.9")]))
    names = moved.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.0.0.9")]


@pytest.mark.parametrize("host", ["", "诊所", "a_b", "-x", "localhost"])
def test_a_host_name_that_is_none_is_left_out(tmp_path: Path, clock: Clock, host: str) -> None:
    found = BrowserAuthority(tmp_path / "b", clock, host or "_")
    assert found.names()[1] in {"lianzhen.local", "localhost.local"}
    found.server([LAN])


def test_only_private_addresses_are_certified() -> None:
    public = ipaddress.ip_address("203.0.113.5")
    found = own_addresses(lambda: [public, LAN, LAN])
    assert found == [LAN, ipaddress.ip_address("127.0.0.1")]
    assert ipaddress.ip_address("127.0.0.1") in own_addresses()


def test_damage_says_what_to_do(authority: BrowserAuthority, tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "browser" / "root.pem"
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(SecretError, match="install the box's authority"):
        BrowserAuthority(tmp_path / "browser", clock)
