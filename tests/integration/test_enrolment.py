"""Boxes enrol, renew and come back, over HTTPS on loopback."""

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from lianzhen_edge.appliance import enrolment
from lianzhen_edge.appliance import identity as disk
from lianzhen_edge.appliance.clock import TrustedClock
from lianzhen_edge.appliance.enrolment import EnrolmentRefused, PinMismatch
from lianzhen_edge.appliance.hubcalls import Hub, HubBusy, HubUnreachable, call
from lianzhen_edge.appliance.identity import Identity
from lianzhen_hub.fleet.authority import Authority, Signer
from lianzhen_hub.fleet.limits import RateLimit
from lianzhen_hub.fleet.routes import PREFIX, Enrolment
from lianzhen_protocol.claims import Claim, Issued, RekeyRequest
from lianzhen_runtime import tls
from lianzhen_runtime.files import write_durably
from support.fleet import DAY, Parts, Web, box_clock, csr, free_port, new_key, parts, serving, until

YEAR = 365 * DAY


@pytest.fixture
async def line(hub: Parts) -> AsyncIterator[Web]:
    async with serving(hub) as made:
        yield made


async def enrolled(line: Web, folder: Path) -> Identity:
    return await enrolment.enrol(await line.claim(), folder, box_clock(folder))


# -- the first day


async def test_a_claimed_box_enrols(line: Web, tmp_path: Path) -> None:
    claim = await line.claim()
    box = await enrolment.enrol(claim, tmp_path / "box", box_clock(tmp_path / "box"))
    assert line.parts.fleet.is_active(box.node)
    assert (box.hub, box.mqtt_host) == (line.url, "127.0.0.1")
    assert box.mqtt_port == line.parts.mqtt_port
    assert disk.load(tmp_path / "box") == box
    assert line.asked == ["cacerts", "nonce", "simpleenroll"]


async def test_a_lost_reply_burns_nothing(line: Web, tmp_path: Path) -> None:
    line.lose = {"simpleenroll"}
    box = await enrolled(line, tmp_path / "box")
    assert line.asked.count("simpleenroll") == 2
    standing = await line.parts.fleet.sync()
    assert standing.serials == ()
    assert await line.parts.notices() == []
    assert await line.parts.fleet.used(box.node, box.serial)


async def test_a_power_cut_after_the_request_burns_nothing(line: Web, tmp_path: Path) -> None:
    folder, claim = tmp_path / "box", await line.claim()
    line.lose = {"simpleenroll"}
    async with asyncio.TaskGroup() as life:
        first = life.create_task(enrolment.enrol(claim, folder, box_clock(folder)))
        await until(lambda: not line.lose)
        first.cancel()
    box = await enrolment.enrol(claim, folder, box_clock(folder))
    assert await line.parts.fleet.used(box.node, box.serial)
    assert await line.parts.notices() == []


async def test_another_box_cannot_use_the_claim_again(line: Web, tmp_path: Path) -> None:
    claim = await line.claim()
    await enrolment.enrol(claim, tmp_path / "a", box_clock(tmp_path / "a"))
    with pytest.raises(EnrolmentRefused, match="used by another box") as refused:
        await enrolment.enrol(claim, tmp_path / "b", box_clock(tmp_path / "b"))
    assert refused.value.code == "claim-used"
    assert await line.parts.notices() == ["claim-used"]


async def test_an_expired_claim_is_final(line: Web, tmp_path: Path) -> None:
    claim = await line.claim(valid_days=-1)
    with pytest.raises(EnrolmentRefused, match="expired") as refused:
        await enrolment.enrol(claim, tmp_path / "box", box_clock(tmp_path / "box"))
    assert refused.value.code == "claim-expired"


@pytest.mark.parametrize("change", [{"box": "BOX-9"}, {"code": bytes(16)}], ids=["box", "code"])
async def test_a_foreign_box_and_a_wrong_code_are_final_and_alike(
    line: Web, tmp_path: Path, change: dict[str, object]
) -> None:
    claim = (await line.claim())._replace(**change)  # type: ignore[arg-type]
    with pytest.raises(EnrolmentRefused, match="knows no such claim") as refused:
        await enrolment.enrol(claim, tmp_path / "box", box_clock(tmp_path / "box"))
    assert refused.value.code == "claim-refused"


async def test_a_hub_that_is_down_is_asked_until_it_is_up(hub: Parts, tmp_path: Path) -> None:
    port = free_port()
    claim = await hub.fleet.new_claim("BOX-1", "clinic", f"https://127.0.0.1:{port}/")
    async with asyncio.TaskGroup() as life:
        box = life.create_task(enrolment.enrol(claim, tmp_path / "b", box_clock(tmp_path / "b")))
        async with serving(hub, port=port):
            await box
    assert hub.fleet.is_active(box.result().node)


async def test_a_busy_hub_is_asked_again_when_it_said(line: Web, tmp_path: Path) -> None:
    line.answer_busy = 2
    began = time.monotonic()
    await enrolled(line, tmp_path / "box")
    assert time.monotonic() - began >= 2.0


# -- other hubs, and those between


async def test_a_wrong_pin_is_one_final_sentence(line: Web, tmp_path: Path) -> None:
    claim = (await line.claim())._replace(pin=bytes(32))
    with pytest.raises(PinMismatch, match="compare the claim with the leaflet"):
        await enrolment.enrol(claim, tmp_path / "box", box_clock(tmp_path / "box"))
    assert line.asked == ["cacerts"]


@contextlib.asynccontextmanager
async def man_in_the_middle(
    folder: Path, port: int, ca_pem: str, asked: list[str]
) -> AsyncIterator[None]:
    """Hands out the true CA, which is public, and then speaks with a key of its own CA."""
    own = Authority(folder)
    pair = own.issue_hub(["127.0.0.1"]).path

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text=ca_pem)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        context = tls.server_context(pair, pair)
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
        yield
    finally:
        await runner.cleanup()


async def test_a_man_in_the_middle_hears_nothing_and_stops_nothing(
    hub: Parts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port, asked = free_port(), list[str]()
    claim = await hub.fleet.new_claim("BOX-1", "clinic", f"https://127.0.0.1:{port}")
    async with asyncio.TaskGroup() as life:
        async with man_in_the_middle(tmp_path / "mitm", port, hub.authority.ca_pem, asked):
            box = life.create_task(
                enrolment.enrol(claim, tmp_path / "box", box_clock(tmp_path / "box"))
            )
            await until(lambda: "hub: no answer: hub-unreachable" in caplog.messages)
        assert set(asked) == {"/enrol/v1/cacerts"}
        async with serving(hub, port=port):
            await box
    assert hub.fleet.is_active(box.result().node)


async def test_a_login_page_of_the_network_is_no_answer(tmp_path: Path) -> None:
    own = Authority(tmp_path / "ca")
    port, asked = free_port(), list[str]()
    async with man_in_the_middle(tmp_path / "other", port, "<html>Welcome!</html>", asked):
        claim = Claim(f"https://127.0.0.1:{port}", "BOX-1", bytes(16), own.spki_pin)
        with pytest.raises(HubUnreachable, match="something else"):
            await enrolment._pinned_ca(claim)


# -- clocks


def _at_1970() -> float:
    return 1000.0


def _a_year_ahead() -> float:
    return time.time() + YEAR


@pytest.mark.parametrize("system", [_at_1970, _a_year_ahead])
async def test_a_wrong_clock_is_set_by_the_hub_and_enrolment_goes_on(
    line: Web, tmp_path: Path, system: Callable[[], float]
) -> None:
    clock = box_clock(tmp_path / "box", system)
    box = await enrolment.enrol(await line.claim(), tmp_path / "box", clock)
    assert line.parts.fleet.is_active(box.node)
    assert abs(clock.now() - time.time()) < 5
    assert "time" in line.asked


async def test_a_time_that_another_ca_signed_is_not_believed(hub: Parts, tmp_path: Path) -> None:
    clock = box_clock(tmp_path / "box", _at_1970)
    other = Authority(tmp_path / "other")
    async with serving(hub) as line:
        asker = Hub(line.url, other.ca_pem, clock)
        with pytest.raises(HubUnreachable, match="certificate"):
            await asker.learn_time()
    assert clock.now() < YEAR


async def test_a_time_from_a_tls_server_of_ours_needs_the_signing_key(
    hub: Parts, tmp_path: Path
) -> None:
    """Whoever stole an old server certificate can keep no box in the past."""
    clock = box_clock(tmp_path / "box", _at_1970)
    async with serving(hub) as line:
        forger = Authority(tmp_path / "forger")
        original = hub.authority.signer()
        forged = original._replace(key=forger.signer().key)
        async with forging(hub, forged) as port:
            asker = Hub(f"https://127.0.0.1:{port}", hub.authority.ca_pem, clock)
            with pytest.raises(HubUnreachable, match="did not sign"):
                await asker.learn_time()
        assert line.asked == []
    assert clock.now() < YEAR


@contextlib.asynccontextmanager
async def forging(hub: Parts, signer: Signer) -> AsyncIterator[int]:
    app = web.Application()
    enrolment_app = Enrolment(hub.fleet, hub.authority, signer)
    app.add_subapp(PREFIX, enrolment_app.application())
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    port, pair = free_port(), hub.authority.issue_hub(["127.0.0.1"]).path
    try:
        await web.TCPSite(
            runner, "127.0.0.1", port, ssl_context=tls.server_context(pair, pair)
        ).start()
        yield port
    finally:
        await runner.cleanup()


# -- what strangers may do


async def post(line: Web, path: str, body: bytes) -> tuple[int, dict[str, object], str]:
    context = line.parts.context(None)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.post(f"{line.url}/enrol/v1{path}", data=body) as answer,
    ):
        return (
            answer.status,
            await answer.json(content_type=None),
            answer.headers.get("Retry-After", ""),
        )


async def test_an_address_that_asks_too_often_is_told_when_to_come_back(hub: Parts) -> None:
    async with serving(hub, RateLimit(time.monotonic, burst=3, every=30.0)) as line:
        for _ in range(3):
            status, _, _ = await post(line, "/nonce", b"")
            assert status == 200
        status, problem, after = await post(line, "/nonce", b"")
        assert (status, problem["code"]) == (429, "too-many-requests")
        assert 0 < int(after) <= 30
        with pytest.raises(HubBusy) as busy:
            await call(f"{line.url}/enrol/v1/cacerts", context=False)
        assert busy.value.retry_after > 0


async def test_a_body_that_no_box_sends_is_cut_off(line: Web) -> None:
    status, problem, _ = await post(line, "/simpleenroll", b"x" * (17 << 10))
    assert (status, problem["code"]) == (413, "request-too-large")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "request-malformed"),
        (b"{", 400, "request-malformed"),
        (b"{}", 422, "request-invalid"),
        (b'{"box":"B","nonce":"x","csr":"","proof":"","more":1}', 422, "request-invalid"),
        (b'{"box":"B","nonce":"x","csr":"","proof":""}', 409, "nonce-unknown"),
    ],
)
async def test_a_request_that_is_none_is_a_problem_document(
    line: Web, body: bytes, status: int, code: str
) -> None:
    got, problem, _ = await post(line, "/simpleenroll", body)
    assert (got, problem["code"]) == (status, code)


async def test_a_renewal_without_a_certificate_is_refused(line: Web) -> None:
    status, problem, _ = await post(line, "/simplereenroll", f'{{"csr":"{"x" * 9}"}}'.encode())
    assert (status, problem["code"]) == (401, "certificate-missing")


async def test_tls_1_2_is_refused(line: Web) -> None:
    command = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{line.port}"]
    found = await asyncio.to_thread(
        subprocess.run, command, input="Q\n", capture_output=True, text=True, timeout=60
    )
    assert found.returncode != 0
    assert "Cipher is (NONE)" in found.stdout


# -- renewal


async def test_a_box_renews_with_a_new_key_over_mtls(line: Web, tmp_path: Path) -> None:
    folder = tmp_path / "box"
    old = await enrolled(line, folder)
    await line.parts.fleet.used(old.node, old.serial)
    new = await enrolment.rekey(old, folder, box_clock(folder))
    assert (new.node, new.clinic) == (old.node, old.clinic)
    assert new.serial != old.serial
    assert new.private_key().public_key() != old.private_key().public_key()
    assert disk.load(folder) == new
    assert await line.parts.fleet.used(new.node, new.serial)


async def test_a_lost_renewal_is_asked_for_again(line: Web, tmp_path: Path) -> None:
    folder = tmp_path / "box"
    old = await enrolled(line, folder)
    line.lose = {"simplereenroll"}
    with pytest.raises(HubUnreachable):
        await enrolment.rekey(old, folder, box_clock(folder))
    new = await enrolment.rekey(old, folder, box_clock(folder))
    assert await line.parts.fleet.used(new.node, new.serial)
    assert len((await line.parts.fleet.sync()).serials) == 1
    assert await line.parts.notices() == []


async def test_the_key_before_the_renewal_is_an_alarm(line: Web, tmp_path: Path) -> None:
    folder = tmp_path / "box"
    old = await enrolled(line, folder)
    new = await enrolment.rekey(old, folder, box_clock(folder))
    await line.parts.fleet.used(new.node, new.serial)
    with pytest.raises(EnrolmentRefused, match="card was copied") as refused:
        await enrolment.rekey(old, folder, box_clock(folder))
    assert refused.value.code == "stale-key"
    assert await line.parts.notices() == ["stale-key"]


async def test_a_reused_key_is_dropped_for_the_next_try(line: Web, tmp_path: Path) -> None:
    folder = tmp_path / "box"
    first = await enrolled(line, folder)
    second = await enrolment.rekey(first, folder, box_clock(folder))
    await line.parts.fleet.used(second.node, second.serial)
    write_durably(folder / "next.key", first.key_file.read_bytes())
    with pytest.raises(EnrolmentRefused) as refused:
        await enrolment.rekey(second, folder, box_clock(folder))
    assert refused.value.code == "key-reused"
    third = await enrolment.rekey(second, folder, box_clock(folder))
    assert await line.parts.fleet.used(third.node, third.serial)


async def next_identity(folder: Path, clock: TrustedClock) -> Identity:
    keeper = enrolment.keep_certificate(folder, clock, check_s=0.05)
    async with contextlib.aclosing(keeper) as found:
        return await anext(found)


async def test_the_keeper_renews_what_is_due(tmp_path: Path) -> None:
    async with parts(tmp_path / "hub", began=-14 * DAY) as hub, serving(hub) as line:
        folder = tmp_path / "box"
        long_ago = box_clock(folder, hub.clock)
        old = await enrolment.enrol(await line.claim(), folder, long_ago)
        hub.clock.by = 0.0
        new = await next_identity(folder, box_clock(folder))
        assert new.not_after > old.not_after
        assert "simplereenroll" in line.asked


async def test_the_keeper_leaves_a_young_certificate_alone(line: Web, tmp_path: Path) -> None:
    folder = tmp_path / "box"
    await enrolled(line, folder)
    before = list(line.asked)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await next_identity(folder, box_clock(folder))
    assert set(line.asked[len(before) :]) <= {"cacerts"}  # it only looks who the authority is


# -- after a long absence


async def test_an_expired_box_comes_back_as_the_same_node(tmp_path: Path) -> None:
    async with parts(tmp_path / "hub", began=-40 * DAY) as hub, serving(hub) as line:
        folder = tmp_path / "box"
        old = await enrolment.enrol(await line.claim(), folder, box_clock(folder, hub.clock))
        hub.clock.by = 0.0
        async with asyncio.TaskGroup() as life:
            back = life.create_task(next_identity(folder, box_clock(folder)))
            await until(lambda: line.asked.count("reapprove") > 1)  # the first one was answered
            assert await hub.notices() == ["reapproval-asked"]
            assert not back.done()
            await hub.fleet.approve(old.node)
            new = await back
        assert new.node == old.node
        assert not new.expired(time.time())
        assert await hub.fleet.used(new.node, new.serial)


async def test_an_expired_box_that_does_not_know_it_finds_out(tmp_path: Path) -> None:
    """Its clock stands still in the certificate's life; only the server knows better."""
    async with parts(tmp_path / "hub", began=-40 * DAY) as hub, serving(hub) as line:
        folder = tmp_path / "box"
        old = await enrolment.enrol(await line.claim(), folder, box_clock(folder, hub.clock))
        hub.clock.by = 0.0
        clock = box_clock(folder, lambda: old.not_before + 20 * DAY)
        async with asyncio.TaskGroup() as life:
            back = life.create_task(next_identity(folder, clock))
            await until(lambda: line.asked.count("reapprove") > 1)  # the first one was answered
            await hub.fleet.approve(old.node)
            assert (await back).node == old.node
        assert abs(clock.now() - time.time()) < 5


async def test_a_clock_that_ran_ahead_does_not_cost_a_good_certificate(
    line: Web, tmp_path: Path
) -> None:
    folder = tmp_path / "box"
    await enrolled(line, folder)
    clock = box_clock(folder, _a_year_ahead)
    async with asyncio.TaskGroup() as life:
        keeper = life.create_task(next_identity(folder, clock))
        await until(lambda: abs(clock.now() - time.time()) < 5)
        looked = len(line.asked)
        await until(lambda: len(line.asked) > looked + 1)
        assert not keeper.done()
        keeper.cancel()
    assert "reapprove" not in line.asked


async def test_a_refused_box_goes_on_asking_quietly(
    line: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "box"
    old = await enrolled(line, folder)
    await line.parts.fleet.revoke(old.node, "stolen")
    clock = box_clock(folder, lambda: old.not_before + 20 * DAY)
    async with asyncio.TaskGroup() as life:
        keeper = life.create_task(next_identity(folder, clock))
        await until(lambda: line.asked.count("simplereenroll") > 2)
        assert not keeper.done()
        keeper.cancel()
    assert caplog.messages.count("certificate: not renewed: node-revoked") == 1


async def test_an_expired_certificate_is_refused_by_tls_itself(tmp_path: Path) -> None:
    async with (
        parts(tmp_path / "hub", lifetime=timedelta(hours=1), began=-3 * DAY) as hub,
        serving(hub) as line,
    ):
        folder = tmp_path / "box"
        old = await enrolment.enrol(await line.claim(), folder, box_clock(folder, hub.clock))
        hub.clock.by = 0.0
        with pytest.raises(HubUnreachable):
            await enrolment.rekey(old, folder, box_clock(folder))
        assert "simplereenroll" not in line.asked


async def test_the_hub_reads_a_csr_of_any_subject_as_nothing(line: Web, tmp_path: Path) -> None:
    old = await enrolled(line, tmp_path / "box")
    hub = Hub(old.hub, old.ca, box_clock(tmp_path), (old.certificate_file, old.key_file))
    reply = await hub.post("/simplereenroll", RekeyRequest(csr=csr(new_key(), "hub")))
    assert reply.read(Issued).node == old.node
