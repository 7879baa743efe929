"""Whatever comes in whatever order, and wherever the hub ends: an image is right, or not there."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lianzhen_hub.imaging.errors import ChunkDiffers, DigestDiffers, OffsetConflict
from lianzhen_hub.imaging.store import Chunk, ObjectStore
from lianzhen_hub.imaging.stores import FileStore, Name
from lianzhen_runtime.keys import FileKeys

CONTENT = hashlib.shake_256(b"an image").digest(1000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
REFUSED = (ChunkDiffers, DigestDiffers, OffsetConflict)


def chunk(offset: int, size: int, *, wrong: bool = False, cut: int | None = None) -> Chunk:
    """What a box sends, and what comes of it."""
    content = CONTENT[offset : offset + size]
    reached = hashlib.sha256(CONTENT[:offset] + content).hexdigest()
    if wrong and content:
        content = bytes([content[0] ^ 1]) + content[1:]
    return Chunk(offset, content, reached) if cut is None else Chunk(offset, content[:cut], None)


def opened(folder: Path, keys: FileKeys) -> ObjectStore:
    return ObjectStore(folder / "images", keys, FileStore(folder / "images"))


steps = st.lists(
    st.tuples(
        st.sampled_from(("good", "wrong", "cut", "wrong cut", "elsewhere", "hub ends", "torn")),
        st.integers(1, 400),
    ),
    max_size=12,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(steps=steps)
def test_an_image_is_right_or_not_there(tmp_path: Path, steps: list[tuple[str, int]]) -> None:
    asyncio.run(story(tmp_path, steps))


async def story(tmp_path: Path, steps: list[tuple[str, int]]) -> None:
    keys = FileKeys(tmp_path / "keys")
    name = Name("n0123456789ab", os.urandom(16).hex(), "original")
    store = opened(tmp_path, keys)
    for what, size in steps:
        offset = await store.offset(name, DIGEST, len(CONTENT))
        try:
            match what:
                case "hub ends" | "torn":
                    store.close()
                    if what == "torn":
                        tear(tmp_path / "images", size)
                    store = opened(tmp_path, keys)
                case "elsewhere":
                    await store.append(name, DIGEST, chunk(offset + size, 5), len(CONTENT))
                case _:
                    cut = size // 2 if "cut" in what else None
                    sent = chunk(offset, size, wrong="wrong" in what, cut=cut)
                    await store.append(name, DIGEST, sent, len(CONTENT))
        except REFUSED:
            pass
    await sent_on(store, name)
    assert await store.content(name) == CONTENT
    assert list((tmp_path / "images").rglob("*.part")) == []
    store.close()


def tear(folder: Path, size: int) -> None:
    """A crash left the last chunk in part."""
    for part in folder.rglob("*.part"):
        with part.open("r+b") as file:
            file.truncate(max(0, part.stat().st_size - size))


async def sent_on(store: ObjectStore, name: Name) -> None:
    """As a box does until all of it is there."""
    for _ in range(20):
        offset = await store.offset(name, DIGEST, len(CONTENT))
        try:
            if await store.append(name, DIGEST, chunk(offset, 300), len(CONTENT)) == len(CONTENT):
                return
        except REFUSED:
            pass
    raise AssertionError("it does not get there")


async def test_what_was_wrong_in_a_chunk_that_was_cut_is_found_by_the_next(tmp_path: Path) -> None:
    name = Name("n0123456789ab", "0" * 32, "original")
    store = opened(tmp_path, FileKeys(tmp_path / "keys"))
    assert await store.append(name, DIGEST, chunk(0, 300), len(CONTENT)) == 300
    assert await store.append(name, DIGEST, chunk(300, 300, wrong=True, cut=200), 1000) == 500
    with pytest.raises(ChunkDiffers):
        await store.append(name, DIGEST, chunk(500, 300), len(CONTENT))
    assert await store.offset(name, DIGEST, len(CONTENT)) == 300
    # What was cut may also come again as a whole, before anybody knew of the part.
    assert await store.append(name, DIGEST, chunk(300, 300, cut=200), len(CONTENT)) == 500
    assert await store.append(name, DIGEST, chunk(300, 300), len(CONTENT)) == 600
    assert await store.append(name, DIGEST, chunk(600, 400), len(CONTENT)) == 1000
    assert await store.content(name) == CONTENT
    store.close()
