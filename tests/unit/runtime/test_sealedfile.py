"""Sealed files: whole, torn at any byte, changed at any place."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lianzhen_protocol.errors import SealBroken
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.sealedfile import MAX_CHUNK_BYTES, SealedWriter, read_sealed, write_sealed

OWNER = "image|n|k"
CHUNKS = [b"first" * 10, b"x", b"third" * 100]


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    return FileKeys(tmp_path / "keys")


def made(path: Path, keys: FileKeys) -> bytes:
    with SealedWriter(path, keys, OWNER) as writer:
        for chunk in CHUNKS:
            writer.append(chunk)
    return path.read_bytes()


def test_what_was_written_is_read_and_lies_sealed(tmp_path: Path, keys: FileKeys) -> None:
    path = tmp_path / "file"
    raw = made(path, keys)
    assert list(read_sealed(path, keys, OWNER)) == CHUNKS
    assert not any(chunk in raw for chunk in CHUNKS if len(chunk) > 1)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_part_is_taken_up_where_a_crash_left_it(tmp_path: Path, keys: FileKeys) -> None:
    raw = made(tmp_path / "whole", keys)
    for cut in range(0, len(raw), 7):
        path = tmp_path / "part"
        path.write_bytes(raw[:cut])
        taken = list[bytes]()
        with SealedWriter(path, keys, OWNER, taken.append) as writer:
            there = len(taken)
            assert taken == CHUNKS[:there]
            assert writer.size == sum(map(len, taken))
            for chunk in CHUNKS[there:]:
                writer.append(chunk)
        assert list(read_sealed(path, keys, OWNER)) == CHUNKS


def test_what_was_appended_since_a_mark_can_be_dropped(tmp_path: Path, keys: FileKeys) -> None:
    path = tmp_path / "part"
    with SealedWriter(path, keys, OWNER) as writer:
        writer.append(CHUNKS[0])
        mark = writer.mark()
        writer.append(b"nobody knows whether this is right")
        writer.back_to(mark)
        assert writer.size == len(CHUNKS[0])
        writer.append(CHUNKS[1])
    assert list(read_sealed(path, keys, OWNER)) == CHUNKS[:2]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(at=st.integers(0, 900), bit=st.integers(0, 7))
def test_a_changed_bit_is_never_read(tmp_path: Path, keys: FileKeys, at: int, bit: int) -> None:
    path = tmp_path / "file"
    raw = bytearray(path.read_bytes() if path.exists() else made(path, keys))
    raw[at % len(raw)] ^= 1 << bit
    changed = tmp_path / "changed"
    changed.write_bytes(raw)
    with pytest.raises(SealBroken):
        list(read_sealed(changed, keys, OWNER))


def test_a_last_chunk_that_claims_more_than_there_is_is_broken(
    tmp_path: Path, keys: FileKeys
) -> None:
    path = tmp_path / "file"
    with SealedWriter(path, keys, OWNER) as writer:
        begin = path.stat().st_size
        writer.append(b"a" * 20)
    raw = bytearray(path.read_bytes())
    raw[begin + 1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(SealBroken):
        list(read_sealed(path, keys, OWNER))


def test_chunks_belong_to_their_place_and_their_file(tmp_path: Path, keys: FileKeys) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        with SealedWriter(path, keys, OWNER) as writer:
            begin = path.stat().st_size
            writer.append(b"a" * 20)
            writer.append(b"b" * 20)
    raw, size = one.read_bytes(), (one.stat().st_size - begin) // 2
    first, second = raw[begin : begin + size], raw[begin + size :]
    strange = other.read_bytes()[begin : begin + size]
    for body in (second + first, first + first, second, strange + second):
        one.write_bytes(raw[:begin] + body)
        with pytest.raises(SealBroken):
            list(read_sealed(one, keys, OWNER))
    with pytest.raises(SealBroken):
        list(read_sealed(other, keys, "somebody else"))


def test_a_file_at_once_is_whole_or_absent(tmp_path: Path, keys: FileKeys) -> None:
    path = tmp_path / "preview"
    (tmp_path / ".preview.new").write_bytes(b"left by a crash")
    content = os.urandom(100)
    write_sealed(path, keys, OWNER, content)
    write_sealed(path, keys, OWNER, content)
    assert b"".join(read_sealed(path, keys, OWNER)) == content
    assert sorted(each.name for each in tmp_path.iterdir()) == ["keys", "preview"]


def test_a_chunk_has_a_size(tmp_path: Path, keys: FileKeys) -> None:
    with SealedWriter(tmp_path / "file", keys, OWNER) as writer:
        for wrong in (b"", bytes(MAX_CHUNK_BYTES + 1)):
            with pytest.raises(ValueError, match="bytes"):
                writer.append(wrong)
