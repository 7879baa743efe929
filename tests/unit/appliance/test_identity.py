"""What lies on the disk, before, during and after the power fails."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lianzhen_edge.appliance import identity as disk
from lianzhen_hub.fleet.authority import Authority
from lianzhen_protocol.claims import Issued
from lianzhen_runtime import files
from lianzhen_runtime.errors import SecretError
from support.fleet import DAY, new_key

HUB = "https://hub.example:8443"
NODE = "n0000000000ab"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return tmp_path / "box"


def issue(authority: Authority, key: ec.EllipticCurvePrivateKey, node: str = NODE) -> Issued:
    made = authority.issue_node(key.public_key(), node)
    return Issued(
        node=node,
        clinic="clinic",
        certificate=made.public_bytes(serialization.Encoding.PEM).decode(),
        ca=authority.ca_pem,
        mqtt_port=8883,
        now_ms=0,
    )


def test_a_blank_box_has_no_identity(box: Path) -> None:
    assert disk.load(box) is None


def test_what_was_installed_is_loaded(box: Path, authority: Authority) -> None:
    issued = issue(authority, disk.next_key(box))
    made = disk.install(box, HUB, issued)
    assert disk.load(box) == made
    assert (made.node, made.clinic, made.mqtt_host) == (NODE, "clinic", "hub.example")
    assert (made.hub, made.mqtt_port, made.ca) == (HUB, 8883, authority.ca_pem)
    assert made.certificate_pem() == issued.certificate
    assert made.key_file.stat().st_mode & 0o777 == 0o600


def test_a_key_is_on_the_disk_before_anybody_hears_of_it(box: Path) -> None:
    assert disk.next_key(box).private_numbers() == disk.next_key(box).private_numbers()
    assert (box / "next.key").stat().st_mode & 0o777 == 0o600


def test_after_the_switch_the_next_key_is_another(box: Path, authority: Authority) -> None:
    key = disk.next_key(box)
    disk.install(box, HUB, issue(authority, key))
    assert disk.next_key(box).private_numbers() != key.private_numbers()


def test_a_key_that_is_in_use_is_not_offered_again(box: Path, authority: Authority) -> None:
    key = disk.next_key(box)
    raw = (box / "next.key").read_bytes()
    disk.install(box, HUB, issue(authority, key))
    files.write_durably(box / "next.key", raw)  # the power failed just before it was removed
    assert disk.next_key(box).private_numbers() != key.private_numbers()


class PowerCut(Exception):
    pass


def test_a_power_cut_at_any_step_leaves_a_whole_pair(
    box: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = disk.install(box, HUB, issue(authority, disk.next_key(box)))
    issued = issue(authority, disk.next_key(box))
    for steps in range(20):
        left = steps

        def failing(path: Path, content: bytes, mode: int = 0o600) -> None:
            nonlocal left
            if left == 0:
                raise PowerCut
            left -= 1
            files.write_durably(path, content, mode)

        with monkeypatch.context() as patched:
            patched.setattr(disk, "write_durably", failing)
            try:
                disk.install(box, HUB, issued)
            except PowerCut:
                found = disk.load(box)
                assert found == old
                continue
        break
    assert steps == 5
    found = disk.load(box)
    assert found is not None
    assert found.certificate_pem() == issued.certificate


def test_only_the_last_two_identities_are_kept(box: Path, authority: Authority) -> None:
    for _ in range(4):
        disk.install(box, HUB, issue(authority, disk.next_key(box)))
    assert sorted(path.name for path in box.iterdir() if path.is_dir()) == ["000003", "000004"]


def test_a_certificate_over_another_key_is_not_installed(box: Path, authority: Authority) -> None:
    disk.next_key(box)
    with pytest.raises(ValueError, match="another key"):
        disk.install(box, HUB, issue(authority, new_key()))
    assert disk.load(box) is None


def test_a_certificate_for_another_node_is_not_installed(box: Path, authority: Authority) -> None:
    issued = issue(authority, disk.next_key(box))
    other = Issued(**{f: getattr(issued, f) for f in issued.__struct_fields__} | {"node": "n" * 13})
    with pytest.raises(ValueError, match="node"):
        disk.install(box, HUB, other)


@pytest.mark.parametrize("name", ["certificate.pem", "identity.json", "key.pem", "ca.pem"])
def test_a_lost_file_is_one_sentence(box: Path, authority: Authority, name: str) -> None:
    disk.install(box, HUB, issue(authority, disk.next_key(box)))
    (box / "000001" / name).unlink()
    with pytest.raises(SecretError):
        disk.load(box)


def test_a_key_that_others_can_read_is_refused(box: Path, authority: Authority) -> None:
    made = disk.install(box, HUB, issue(authority, disk.next_key(box)))
    made.key_file.chmod(0o640)
    with pytest.raises(SecretError, match="chmod 600"):
        disk.load(box)


@pytest.mark.parametrize(
    ("day", "unit", "due"),
    [
        (9.9, 0.0, False),
        (10.1, 0.0, True),
        (12.9, 0.99, False),
        (13.1, 0.99, True),
        (40, 0.5, True),
    ],
)
def test_it_renews_after_a_third_of_its_life_and_some_jitter(
    box: Path, authority: Authority, day: float, unit: float, *, due: bool
) -> None:
    made = disk.install(box, HUB, issue(authority, disk.next_key(box)))
    assert made.due(made.not_before + day * DAY, unit) is due


def test_it_expires(box: Path, authority: Authority) -> None:
    made = disk.install(box, HUB, issue(authority, disk.next_key(box)))
    assert not made.expired(made.not_after - 1)
    assert made.expired(made.not_after + 1)
