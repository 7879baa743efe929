"""How the broker lives and dies as a child of the hub."""

import asyncio
import os
import resource
import signal
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lianzhen_hub.broker.configuration import BrokerSettings
from lianzhen_hub.broker.mosquitto import Broker
from lianzhen_runtime import mosquitto as broker_module
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.mosquitto import BrokerDied
from support.fleet import Live, Parts, free_port, until


async def test_the_broker_may_not_write_its_own_files(live: Live) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives the broker a user of its own")
    assert "\nUid:\t0\t" not in status_of(live.broker.pid)
    assert owners_and_modes(live.parts.folder / "broker") == {(0, 0o640)}


async def test_the_broker_may_open_as_many_files_as_the_system_lets_it(live: Live) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = Path(f"/proc/{live.broker.pid}/limits").read_text()  # noqa: ASYNC240 - no disk
    (line,) = (line for line in limits.splitlines() if line.startswith("Max open files"))
    assert line.split()[3:5] == [str(hard), str(hard)]


def status_of(pid: int | None) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def owners_and_modes(folder: Path) -> set[tuple[int, int]]:
    found = [path.stat() for path in folder.iterdir()]
    return {(stat.st_uid, stat.st_mode & 0o777) for stat in found}


async def test_a_killed_broker_is_a_fault_that_a_supervisor_repairs(hub: Parts) -> None:
    settings = BrokerSettings(address="127.0.0.1", port=hub.mqtt_port)
    broker = Broker(hub.folder / "broker", settings, hub.authority)
    await broker.reload(hub.authority.revocation_list([]), ())
    for _ in range(2):
        async with asyncio.TaskGroup() as services:
            running = services.create_task(wait_for_death(broker))
            await broker.started()
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
            await running
        assert broker.pid is None


async def wait_for_death(broker: Broker) -> None:
    with pytest.raises(BrokerDied, match="status -9"):
        await broker.run()


async def test_a_killed_hub_leaves_no_broker(tmp_path: Path) -> None:
    port, program = free_port(), Path(__file__).parents[1] / "support" / "hub_that_dies.py"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, program, tmp_path, str(port)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert parent.stdout is not None
    broker = int(await parent.stdout.readline())
    assert "Name:\tmosquitto" in status_of(broker)
    parent.kill()
    await parent.communicate()
    await until(lambda: not alive(broker), "the broker died with its hub")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


async def test_a_taken_port_is_one_sentence(hub: Parts) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", hub.mqtt_port))
        other.listen()
        settings = BrokerSettings(address="127.0.0.1", port=hub.mqtt_port)
        broker = Broker(hub.folder / "broker", settings, hub.authority)
        await broker.reload(hub.authority.revocation_list([]), ())
        with pytest.raises(Unavailable, match=f"port {hub.mqtt_port} is taken by another program"):
            await broker.run()


async def test_a_missing_broker_is_one_sentence(
    hub: Parts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(broker_module, "_SYSTEM_PATH", str(tmp_path))
    broker = Broker(hub.folder / "broker", BrokerSettings(port=hub.mqtt_port), hub.authority)
    await broker.reload(hub.authority.revocation_list([]), ())
    with pytest.raises(Unavailable, match="is not installed; install the package"):
        await broker.run()


async def test_an_unknown_user_is_one_sentence(hub: Parts) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives the broker a user of its own")
    settings = BrokerSettings(port=hub.mqtt_port, user="nobody-of-that-name")
    broker = Broker(hub.folder / "broker", settings, hub.authority)
    with pytest.raises(Unavailable, match="there is no user nobody-of-that-name"):
        await broker.reload(hub.authority.revocation_list([]), ())


async def test_a_reload_while_it_starts_does_not_end_it(hub: Parts) -> None:
    settings = BrokerSettings(address="127.0.0.1", port=hub.mqtt_port)
    broker = Broker(hub.folder / "broker", settings, hub.authority)
    await broker.reload(hub.authority.revocation_list([]), ())
    async with asyncio.TaskGroup() as services:
        running = services.create_task(broker.run())
        await until(lambda: broker.pid is not None)
        await broker.reload(hub.authority.revocation_list([(7, datetime.now(UTC))]), ())
        assert broker.pid is not None
        running.cancel()
