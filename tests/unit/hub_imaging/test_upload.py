"""Uploads over real TLS and a real line that is cut: whose, whole, once, and from where it was."""

import asyncio
import contextlib
import hashlib
import io
import os
import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from lianzhen_edge.dicom.pace import Pace
from lianzhen_edge.dicom.put import HubAway, Put, Refused
from lianzhen_hub.imaging.store import Chunk
from lianzhen_hub.imaging.stores import Name
from lianzhen_protocol import imaging
from lianzhen_runtime.packing import pack
from line import Line
from support.image_hub import ImageHub, image_hub
from support.modality import ct_slice, data_set, part10

CHUNK = 16 << 10


class Small(Pace):
    """Sixteen kilobytes at a time, whatever the line carries."""

    @property
    def chunk(self) -> int:
        return CHUNK


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[ImageHub]:
    async with image_hub(tmp_path) as made:
        yield made


def path_of(key: str, part: str = "original") -> str:
    return f"{imaging.UPLOAD_PATH}/{key}/{part}"


def headers(
    content: bytes, offset: int | None = None, reach: int | None = None, **more: str
) -> dict[str, str]:
    found = {
        "Upload-Length": str(len(content)),
        "Upload-Digest": hashlib.sha256(content).hexdigest(),
    }
    if offset is not None:
        end = offset + CHUNK if reach is None else reach
        found["Upload-Offset"] = str(offset)
        found["Upload-Reached"] = hashlib.sha256(content[:end]).hexdigest()
    return found | {name.replace("_", "-"): text for name, text in more.items()}


async def test_an_image_and_its_preview_come_whole_and_a_receipt_goes_down(site: ImageHub) -> None:
    node, context = await site.box("BOX-1")
    content, jpeg = os.urandom(3 * CHUNK + 17), b"\xff\xd8\xff" + os.urandom(5000)
    key = await site.announce(node, content)
    async with site.session(context) as session:
        put = Put(session, Small())
        await put.content(path_of(key, "preview"), jpeg)
        assert (await site.state(key)).preview == len(jpeg)
        assert await site.receipts(node) == 0
        await put.content(path_of(key), content)
        assert (await site.state(key)).state == "safe"
        assert await site.receipts(node) == 1
        await put.content(path_of(key), content)  # the box did not hear of it: it asks again
        assert await site.receipts(node) == 2
    assert await site.hub.objects.content(Name(node, key, "original")) == content
    assert await site.hub.objects.content(Name(node, key, "preview")) == jpeg
    study = await site.hub.consult(
        lambda sheets: sheets.get(imaging.Study, imaging.study_key(node, "1.2.3"))
    )
    assert study is not None
    assert study.received == 1


@pytest.mark.parametrize("seed", range(3))
async def test_a_line_that_is_cut_at_any_byte_costs_a_chunk_each_time(
    site: ImageHub, seed: int
) -> None:
    node, context = await site.box("BOX-1")
    content, luck, cuts = os.urandom(12 * CHUNK + 5), random.Random(seed), 0
    key, line = await site.announce(node, content), Line(site.port)
    try:
        while True:
            line.cut_after = luck.randrange(2000, 6 * CHUNK) if cuts < 12 else None
            try:
                async with site.session(context, line.port) as session:
                    await Put(session, Small()).content(path_of(key), content)
                break
            except HubAway:
                cuts += 1
    finally:
        await asyncio.to_thread(line.close)
    assert cuts > 3
    handshakes = 8000 * (cuts + 1) + 24 * 8000  # each call has a connection, and so a certificate
    assert line.passed < len(content) + cuts * CHUNK + handshakes
    assert await site.hub.objects.content(Name(node, key, "original")) == content
    assert await site.receipts(node) == 1


async def test_what_a_crash_left_is_taken_up(site: ImageHub) -> None:
    node, context = await site.box("BOX-1")
    content = os.urandom(4 * CHUNK)
    key = await site.announce(node, content)
    async with site.session(context) as session:
        for number in range(3):
            chunk = content[number * CHUNK : (number + 1) * CHUNK]
            sent = headers(content, number * CHUNK)
            async with session.patch(path_of(key), headers=sent, data=chunk) as answer:
                assert answer.status == 204
        site.hub.objects.let_go()
        (part,) = (site.folder / "images").rglob("*.part")
        with part.open("r+b") as file:
            file.truncate(part.stat().st_size - 100)  # the third chunk was torn
        async with session.head(path_of(key), headers=headers(content)) as answer:
            assert answer.headers["Upload-Offset"] == str(2 * CHUNK)
        await Put(session, Small()).content(path_of(key), content)
    assert await site.hub.objects.content(Name(node, key, "original")) == content


async def test_of_a_chunk_that_is_cut_off_what_came_is_kept(site: ImageHub) -> None:
    node, context = await site.box("BOX-1")
    content = os.urandom(5 * CHUNK)
    key = await site.announce(node, content)
    sent = headers(content, 0, 4 * CHUNK) | {"Content-Length": str(4 * CHUNK)}
    lines = [f"PATCH {path_of(key)} HTTP/1.1", "Host: hub", *(f"{n}: {v}" for n, v in sent.items())]
    _, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=context)
    writer.write("\r\n".join([*lines, "", ""]).encode() + content[: 2 * CHUNK])
    await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    async with site.session(context) as session:
        for _ in range(500):
            async with session.head(path_of(key), headers=headers(content)) as answer:
                if (there := int(answer.headers["Upload-Offset"])) > 0:
                    break
            await asyncio.sleep(0.01)
        assert there == 2 * CHUNK
        await Put(session, Small()).content(path_of(key), content)
    assert await site.hub.objects.content(Name(node, key, "original")) == content


class Wrong(Put):
    """Its line changes a bit in every other chunk, as no line under TLS does."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        super().__init__(session, Small())
        self.chunks = self.wrong = 0

    async def _call(
        self, method: str, path: str, headers: dict[str, str], chunk: bytes | None = None
    ) -> int:
        if chunk:
            self.chunks += 1
            if self.chunks % 2:
                self.wrong += 1
                chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
        return await super()._call(method, path, headers, chunk)


async def test_a_chunk_that_is_not_what_was_sent_is_refused_and_comes_again(site: ImageHub) -> None:
    node, context = await site.box("BOX-1")
    content = os.urandom(4 * CHUNK)
    key = await site.announce(node, content)
    async with site.session(context) as session:
        wrong = Wrong(session)
        await wrong.content(path_of(key), content)
    assert (wrong.wrong, wrong.chunks) == (4, 8)
    assert await site.hub.objects.content(Name(node, key, "original")) == content
    assert await site.receipts(node) == 1


async def test_an_image_that_is_not_its_manifests_is_not_sent(site: ImageHub) -> None:
    node, context = await site.box("BOX-1")
    content = os.urandom(100)
    key = await site.announce(node, content)
    changed = b"x" + content[1:]
    async with site.session(context) as session:
        with pytest.raises(Refused) as refused:
            await Put(session, Pace()).content(
                path_of(key), changed, hashlib.sha256(content).hexdigest()
            )
    assert refused.value.code == "image-differs"


async def test_a_hub_that_died_between_file_and_commit_commits_when_asked(site: ImageHub) -> None:
    node, context = await site.box("BOX-1")
    content = os.urandom(100)
    key = await site.announce(node, content)
    digest = hashlib.sha256(content).hexdigest()
    await site.hub.objects.append(
        Name(node, key, "original"), digest, Chunk(0, content, digest), 100
    )
    assert (await site.state(key)).state == "stored"
    async with site.session(context) as session:
        await Put(session, Pace()).content(path_of(key), content)
    assert (await site.state(key)).state == "safe"


async def asked(
    site: ImageHub, context: ssl.SSLContext, path: str, sent: dict[str, str], chunk: bytes = b""
) -> tuple[int, str]:
    """(status, code) of a PATCH."""
    async with (
        site.session(context) as session,
        session.patch(path, headers=sent, data=io.BytesIO(chunk)) as answer,
    ):
        body = await answer.json(content_type=None) if answer.status >= 400 else {}
        return answer.status, body.get("code", "")


async def test_who_may_not_and_what_is_not_like_its_manifest(site: ImageHub) -> None:
    node, context = await site.box("BOX-1")
    _, other = await site.box("BOX-2")
    content = os.urandom(3000)
    key = await site.announce(node, content)
    good = headers(content, 0)
    unknown = path_of("0" * 32)
    not_jpeg = headers(b"GIF89a", 0)
    huge = headers(content, 0, Upload_Length=str(5 << 20))
    for who, path, sent, chunk, wanted in (
        (site.context(), path_of(key), good, content, (401, "certificate-missing")),
        (other, path_of(key), good, content, (404, "image-unannounced")),
        (context, unknown, good, content, (404, "image-unannounced")),
        (context, path_of("../" * 10), good, content, (404, "not-found")),
        (context, path_of(key), headers(content + b"x", 0), content, (422, "upload-differs")),
        (
            context,
            path_of(key),
            headers(content, 0, Upload_Digest="x"),
            b"",
            (422, "upload-differs"),
        ),
        (context, path_of(key), headers(content), content, (422, "upload-differs")),
        (context, path_of(key), headers(content, 7), content[7:], (409, "upload-offset")),
        (context, path_of(key), good, content + b"x", (409, "upload-offset")),
        (context, path_of(key), good, bytes(3000), (409, "upload-chunk")),
        (context, path_of(key, "preview"), not_jpeg, b"GIF89a", (422, "upload-differs")),
        (context, path_of(key, "preview"), huge, b"", (422, "upload-differs")),
        (context, path_of(key), good, bytes((1 << 20) + 1), (413, "request-too-large")),
    ):
        assert await asked(site, who, path, sent, chunk) == wanted
    assert await site.receipts(node) == 0
    assert not list((site.folder / "images").rglob("*.original"))
    assert await asked(site, context, path_of(key), good, content) == (204, "")  # none did harm
    await site.hub.fleet.revoke(node, "stolen")
    assert await asked(site, context, path_of(key), good, content) == (403, "node-revoked")


def slice_with_noise(number: int) -> bytes:
    image = ct_slice(number, "1.2.3", "1.2.3.1", side=96)
    ramp = np.arange(96 * 96, dtype=np.uint16) // 8
    image.PixelData = (ramp + np.frombuffer(image.PixelData, np.uint16) % 16).tobytes()
    uids = image.SOPClassUID, image.SOPInstanceUID
    return part10(*uids, "1.2.840.10008.1.2.1", data_set(image))


async def test_a_packed_image_is_unpacked_and_kept_as_what_it_was(site: ImageHub) -> None:
    node, context = await site.box("BOX-1")
    content = slice_with_noise(1)
    packed, key = pack(content), await site.announce(node, content)
    async with site.session(context) as session:
        put = Put(session, Small())
        for _ in range(2):  # the second time the box did not hear of the first
            await put.content(path_of(key, "packed"), packed)
    assert (await site.state(key)).state == "safe"
    assert await site.receipts(node) == 2
    assert await site.hub.objects.content(Name(node, key, "original")) == content
    kept = [path.name for path in (site.folder / "images").rglob("*.*")]
    assert kept == [f"{key}.original"]


async def test_what_does_not_unpack_to_the_original_is_dropped_and_said(site: ImageHub) -> None:
    node, context = await site.box("BOX-1")
    content, other = slice_with_noise(1), slice_with_noise(2)
    key = await site.announce(node, content)
    assert len(content) == len(other)
    async with site.session(context) as session:
        put = Put(session, Small())
        for wrong in (pack(other), b"LZP1" + os.urandom(500)):
            with pytest.raises(Refused, match="packed-differs"):
                await put.content(path_of(key, "packed"), wrong)
            assert (await site.state(key)).state == "stored"
            assert not list((site.folder / "images").rglob("*.*"))
        with pytest.raises(Refused, match="upload-differs"):
            await put.content(path_of(key, "packed"), content)  # no smaller than the original
        await put.content(path_of(key), content)
    assert (await site.state(key)).state == "safe"
