"""Images in an S3-compatible store: OpenStack Swift's gateway, ended and begun again meanwhile."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from lianzhen_edge.dicom.pace import Pace
from lianzhen_edge.dicom.put import HubAway, Put
from lianzhen_hub.imaging.errors import StoreAway
from lianzhen_hub.imaging.s3 import S3Store
from lianzhen_hub.imaging.store import Chunk
from lianzhen_hub.imaging.stores import FileStore, Name
from lianzhen_protocol import imaging
from support.image_hub import ImageHub, image_hub
from support.swift_store import SECRET, USER, SwiftStore, swift_store

BUCKET, PREFIX = "images", "county/one"


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftStore]:
    with pytest.MonkeyPatch.context() as patch, swift_store(tmp_path_factory.mktemp("s")) as made:
        patch.setenv("AWS_ACCESS_KEY_ID", USER)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        client(made).create_bucket(Bucket=BUCKET)
        yield made


@pytest.fixture
async def site(tmp_path: Path, swift: SwiftStore) -> AsyncIterator[ImageHub]:
    where = {"images": f"s3://{BUCKET}/{PREFIX}", "images_endpoint": swift.endpoint}
    async with image_hub(tmp_path, **where) as made:
        yield made


def client(swift: SwiftStore) -> Any:
    """Somebody else who looks into the store."""
    return botocore.session.get_session().create_client(
        "s3", region_name="us-east-1", endpoint_url=swift.endpoint
    )


def path_of(key: str, part: str = "original") -> str:
    return f"{imaging.UPLOAD_PATH}/{key}/{part}"


def files(site: ImageHub, pattern: str) -> list[Path]:
    return list((site.folder / "images").rglob(pattern))


async def test_an_image_is_in_the_store_sealed_and_nowhere_else(
    site: ImageHub, swift: SwiftStore
) -> None:
    node, context = await site.box("BOX-1")
    content, jpeg = os.urandom(300_000), b"\xff\xd8\xff" + os.urandom(5000)
    key = await site.announce(node, content)
    async with site.session(context) as session:
        put = Put(session, Pace())
        await put.content(path_of(key), content)
        await put.content(path_of(key, "preview"), jpeg)
        assert (await site.state(key)).state == "safe"
        await put.content(path_of(key), content)  # it asks again, and is told again
    assert await site.receipts(node) == 2
    assert await site.hub.objects.content(Name(node, key, "original")) == content
    assert await site.hub.objects.content(Name(node, key, "preview")) == jpeg
    assert files(site, "*.part") + files(site, "*.original") + files(site, "*.preview") == []
    stored = client(swift).get_object(
        Bucket=BUCKET, Key=f"{PREFIX}/{node}/{key[:2]}/{key}.original"
    )
    sealed = stored["Body"].read()
    assert len(sealed) > len(content)
    assert content[:64] not in sealed


async def test_while_the_store_is_away_an_image_waits_and_is_not_safe(
    site: ImageHub, swift: SwiftStore
) -> None:
    node, context = await site.box("BOX-1")
    content = os.urandom(100_000)
    key = await site.announce(node, content)
    half, digest = content[:50_000], hashlib.sha256(content).hexdigest()
    name = Name(node, key, "original")
    first = Chunk(0, half, hashlib.sha256(half).hexdigest())
    assert await site.hub.objects.append(name, digest, first, len(content)) == len(half)
    await asyncio.to_thread(swift.stop)
    async with site.session(context) as session:
        with pytest.raises(HubAway):
            await Put(session, Pace()).content(path_of(key), content)
        assert ((await site.state(key)).state, await site.receipts(node)) == ("stored", 0)
        assert len(files(site, "*.part")) == 1
        assert not site.hub.objects.store_is_up
        await asyncio.to_thread(swift.start)
        await Put(session, Pace()).content(path_of(key), content)
    assert ((await site.state(key)).state, await site.receipts(node)) == ("safe", 1)
    assert site.hub.objects.store_is_up
    assert await site.hub.objects.content(name) == content
    assert files(site, "*.part") == []


async def test_a_hub_that_died_between_store_and_commit_commits_when_asked(
    site: ImageHub,
) -> None:
    node, context = await site.box("BOX-1")
    content = os.urandom(1000)
    key = await site.announce(node, content)
    digest = hashlib.sha256(content).hexdigest()
    name = Name(node, key, "original")
    await site.hub.objects.append(name, digest, Chunk(0, content, digest), len(content))
    # It may also have died before it let the file go.
    left = site.folder / "images" / node / key[:2] / f"{key}.{digest[:16]}.part"
    left.write_bytes(b"left")
    assert (await site.state(key)).state == "stored"
    async with site.session(context) as session:
        await Put(session, Pace()).content(path_of(key), content)
    assert (await site.state(key)).state == "safe"
    assert await site.hub.objects.content(name) == content
    assert not left.exists()


class Forgets(S3Store):
    """It says yes, and has something else."""

    def _look(self, name: Name) -> tuple[int, str] | None:
        found = super()._look(name)
        return None if found is None else (found[0], "0" * 32)


def test_a_store_is_believed_only_when_it_tells_the_hash(tmp_path: Path, swift: SwiftStore) -> None:
    name = Name("n0123456789ab", os.urandom(16).hex(), "original")
    file = tmp_path / "part"
    file.write_bytes(b"sealed")
    older = FileStore(tmp_path / "images")
    url = f"s3://{BUCKET}/{PREFIX}"
    with pytest.raises(StoreAway):
        Forgets(url, swift.endpoint, "us-east-1", older).put(name, file)
    assert file.read_bytes() == b"sealed"
    S3Store(url, swift.endpoint, "us-east-1", older).put(name, file)
    assert not file.exists()


def test_what_was_in_files_before_is_found_there(tmp_path: Path, swift: SwiftStore) -> None:
    name = Name("n0123456789ab", os.urandom(16).hex(), "original")
    file = tmp_path / "part"
    file.write_bytes(b"sealed before")
    older = FileStore(tmp_path / "images")
    older.put(name, file)
    store = S3Store(f"s3://{BUCKET}", swift.endpoint, "us-east-1", older)
    assert store.has(name)
    with store.open(name) as found:
        assert found.read() == b"sealed before"
    with pytest.raises(FileNotFoundError):
        store.open(Name(name.node, "0" * 32, "preview"))
