"""Key-encryption keys: versions, wrapped keys that open in their place only."""

from pathlib import Path

import pytest

from lianzhen_protocol.errors import SealBroken
from lianzhen_runtime.errors import SecretError
from lianzhen_runtime.keys import FileKeys, WrappedKey, new_data_key, unwrap

OWNER, EPOCH = "n0123456789ab", bytes(range(16))
NONCE, PLACE = bytes(12), b"here"


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    return FileKeys(tmp_path / "keys")


def test_the_first_key_is_made_and_only_its_owner_reads_it(keys: FileKeys, tmp_path: Path) -> None:
    assert keys.current() == 1
    (path,) = (tmp_path / "keys").iterdir()
    assert (path.name, path.stat().st_mode & 0o777) == ("kek.1", 0o600)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


def test_a_start_makes_no_new_key(keys: FileKeys, tmp_path: Path) -> None:
    sealed = keys.key(1).seal(NONCE, b"x", PLACE)
    again = FileKeys(tmp_path / "keys")
    assert again.current() == 1
    assert again.key(1).open(sealed, PLACE) == b"x"


def test_after_a_rotation_old_and_new_open(keys: FileKeys) -> None:
    old_key, old = new_data_key(keys, OWNER, EPOCH)
    for version in range(2, 12):
        assert keys.rotate() == version
    new_key, new = new_data_key(keys, OWNER, EPOCH)
    assert (old.version, new.version, keys.current()) == (1, 11, 11)
    for key, wrapped in ((old_key, old), (new_key, new)):
        sealed = key.seal(NONCE, b"x", PLACE)
        assert unwrap(keys, OWNER, EPOCH, wrapped).open(sealed, PLACE) == b"x"


@pytest.mark.parametrize(
    ("owner", "epoch"), [("nzzzzzzzzzzzz", EPOCH), (OWNER, bytes(16)), ("", EPOCH)]
)
def test_a_wrapped_key_opens_for_its_owner_and_epoch_only(
    keys: FileKeys, owner: str, epoch: bytes
) -> None:
    _, wrapped = new_data_key(keys, OWNER, EPOCH)
    with pytest.raises(SealBroken):
        unwrap(keys, owner, epoch, wrapped)


def test_a_wrapped_key_opens_under_its_version_only(keys: FileKeys) -> None:
    _, wrapped = new_data_key(keys, OWNER, EPOCH)
    keys.rotate()
    with pytest.raises(SealBroken):
        unwrap(keys, OWNER, EPOCH, WrappedKey(2, wrapped.sealed))


def test_a_key_that_is_gone_is_one_sentence(keys: FileKeys) -> None:
    with pytest.raises(SecretError, match=r"kek\.7 is missing"):
        keys.key(7)


def test_a_damaged_key_is_one_sentence(keys: FileKeys, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "kek.1"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SecretError, match="restore it from backup"):
        keys.key(1)


def test_a_key_that_others_can_read_is_refused(keys: FileKeys, tmp_path: Path) -> None:
    (tmp_path / "keys" / "kek.1").chmod(0o644)
    with pytest.raises(SecretError, match="chmod 600"):
        keys.key(1)


@pytest.mark.parametrize("name", ["kek.1.bak", "kek.1~", "kek.old", ".kek.9.123.new", "kek."])
def test_what_an_operator_left_beside_the_keys_is_no_version(
    keys: FileKeys, tmp_path: Path, name: str
) -> None:
    (tmp_path / "keys" / name).write_bytes(b"x")
    assert keys.current() == 1
