"""Listening, and errors as problem documents."""

import logging
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client.core import CounterMetricFamily

from lianzhen_protocol.errors import ProtocolError, SealBroken
from lianzhen_runtime.errors import LianzhenError, Unavailable
from lianzhen_runtime.http import exposition, serving
from lianzhen_runtime.problems import json_answer, problem, problems


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """What one route wants."""

    count: int


class DiskFull(LianzhenError):
    """With a status of its own."""

    code = "journal-full"
    http_status = 507


RAISES: dict[str, Exception] = {
    "ours": Unavailable("the printer is off"),
    "ours-with-status": DiskFull("make space"),
    "protocol": SealBroken("moved from its place"),
    "bug": ValueError("患者张三"),
}


async def fail(request: web.Request) -> web.Response:
    raise RAISES[request.match_info["how"]]


async def take(request: web.Request) -> web.Response:
    return json_answer(msgspec.json.decode(await request.read(), type=Body), 201)


async def metrics(_request: web.Request) -> web.Response:
    counted = CounterMetricFamily("lianzhen_records", "Records since the start.")
    counted.add_metric([], 7)
    return exposition([counted])


def application() -> web.Application:
    app = web.Application(middlewares=[problems])
    app.router.add_get("/fail/{how}", fail)
    app.router.add_post("/take", take)
    app.router.add_get("/metrics", metrics)
    return app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
async def client(path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.UnixConnector(path=str(path))
    async with (
        serving(application(), path=path),
        aiohttp.ClientSession("http://program", connector=connector) as session,
    ):
        yield session


async def read_problem(answer: aiohttp.ClientResponse) -> Any:
    assert answer.content_type == "application/problem+json"
    return msgspec.json.decode(await answer.read())


def mode_of(path: Path) -> int:
    return path.stat().st_mode


# -- listening


async def test_a_socket_is_its_owners_alone(path: Path) -> None:
    async with serving(web.Application(), path=path) as port:
        assert (mode_of(path), port) == (stat.S_IFSOCK | 0o600, 0)


async def test_a_socket_that_was_left_behind_is_replaced(
    path: Path, client: aiohttp.ClientSession
) -> None:
    """By a program that was killed: its file is there and nobody listens."""
    left = path.with_name("left.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    async with serving(web.Application(), path=left):
        assert mode_of(left) == stat.S_IFSOCK | 0o600
    async with client.get("/metrics") as answer:
        assert answer.status == 200


async def test_zero_asks_for_any_port() -> None:
    async with serving(web.Application()) as port, serving(web.Application()) as other:
        assert port > 0
        assert other not in (0, port)


async def test_a_port_that_is_taken_is_one_sentence() -> None:
    async with serving(web.Application()) as port:
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port} cannot be served: .*is another"):
            async with serving(web.Application(), port=port):
                pass


async def test_a_folder_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be served: No such file"):
        async with serving(web.Application(), path=tmp_path / "nothing" / "control.sock"):
            pass


async def test_what_fails_within_the_block_is_not_blamed_on_the_port(path: Path) -> None:
    with pytest.raises(ConnectionResetError, match="the broker went"):
        async with serving(web.Application(), path=path):
            raise ConnectionResetError("the broker went")


async def test_the_port_is_free_again_after_the_block() -> None:
    async with serving(web.Application()) as port:
        pass
    async with serving(web.Application(), port=port) as again:
        assert again == port


async def test_metrics_are_in_prometheus_text_format(client: aiohttp.ClientSession) -> None:
    for _ in range(2):  # nothing is kept between scrapes
        async with client.get("/metrics") as answer:
            assert answer.content_type == "text/plain"
            assert "lianzhen_records_total 7.0" in (await answer.text()).splitlines()


# -- problems


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("ours", {"status": 400, "code": "unavailable", "detail": "the printer is off"}),
        ("ours-with-status", {"status": 507, "code": "journal-full", "detail": "make space"}),
        ("protocol", {"status": 400, "code": "seal-broken", "detail": "moved from its place"}),
    ],
)
async def test_an_error_of_ours_is_its_code_and_sentence(
    client: aiohttp.ClientSession, how: str, expected: dict[str, object]
) -> None:
    assert isinstance(RAISES[how], LianzhenError | ProtocolError)
    async with client.get(f"/fail/{how}") as answer:
        assert answer.status == expected["status"]
        assert await read_problem(answer) == expected


async def test_an_unexpected_error_says_nothing_of_its_inside(
    client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "lianzhen.http"):
        async with client.get("/fail/bug") as answer:
            assert answer.status == 500
            found = await read_problem(answer)
    assert found["code"] == "internal"
    assert "张三" not in found["detail"]
    assert [record.getMessage() for record in caplog.records] == ["request failed"]
    assert "张三" not in caplog.text


@pytest.mark.parametrize(
    ("body", "status", "code", "word"),
    [
        (b'{"count": "many"}', 422, "request-invalid", "$.count"),
        (b'{"count": 1, "colour": 2}', 422, "request-invalid", "colour"),
        (b"{", 400, "request-malformed", "truncated"),
        (b"\xff", 400, "request-malformed", ""),
    ],
)
async def test_a_wrong_body_is_said_to_be_one(
    client: aiohttp.ClientSession, body: bytes, status: int, code: str, word: str
) -> None:
    async with client.post("/take", data=body) as answer:
        assert answer.status == status
        found = await read_problem(answer)
    assert (found["code"], found["status"]) == (code, status)
    assert word in found["detail"]


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [("GET", "/nothing", 404, "not-found"), ("GET", "/take", 405, "method-not-allowed")],
)
async def test_the_servers_own_errors_are_problems_too(
    client: aiohttp.ClientSession, method: str, target: str, status: int, code: str
) -> None:
    async with client.request(method, target) as answer:
        assert answer.status == status
        assert (await read_problem(answer))["code"] == code


async def test_what_is_right_passes(client: aiohttp.ClientSession) -> None:
    async with client.post("/take", data=b'{"count": 1}') as answer:
        assert (answer.status, answer.content_type) == (201, "application/json")
        assert await answer.json() == {"count": 1}


def test_a_problem_may_say_when_to_come_again() -> None:
    answer = problem(429, "too-many-requests", "later", {"Retry-After": "5"})
    assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
