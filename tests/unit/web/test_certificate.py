"""The certificate of a console: an operator's mistakes, while it starts and while it runs."""

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from lianzhen_edge.appliance.browser_trust import BrowserAuthority
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.web import certificate


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    return BrowserAuthority(tmp_path / "browser", lambda: 1.8e9, "box").server([])


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_files_that_cannot_be_used_are_one_sentence(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "mine.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Unavailable, match=r"mine\.pem .* cannot be used"):
        certificate.context(lambda: (file, file))


async def test_what_is_gone_for_a_moment_leaves_the_last_in_use(pair: Path) -> None:
    server = certificate.context(lambda: (pair, pair))
    asked = asyncio.Event()
    answers = [Path("/nowhere"), pair]

    def find() -> tuple[Path, Path]:
        found = answers.pop(0) if answers else pair
        if not answers:
            asked.set()
        return found, found

    async with asyncio.timeout(60):
        keeping = asyncio.gather(certificate.keep(server, find, 0.001))
        await asked.wait()
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
    assert isinstance(server, ssl.SSLContext)
    assert not answers
