"""A broker of ours that is told of new files while it still reads the last ones."""

import asyncio
import base64
from pathlib import Path

from lab import free_ports
from lianzhen_runtime.mosquitto import CONFIGURATION, Mosquitto
from support.lab_fixtures import needs_tool

pytestmark = needs_tool("mosquitto")

LOGINS = 20_000
"""As many as keep it reading for longer than it takes us to come with the next reload."""


async def test_a_reload_that_comes_while_it_reads_is_not_lost(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    secret = base64.b64encode(bytes(64)).decode()
    logins = "".join(f"u{number}:$7$1${secret}${secret}\n" for number in range(LOGINS)).encode()
    configuration = (
        f"listener {port} 127.0.0.1\npassword_file logins\nlog_timestamp false\n".encode()
    )
    files = {CONFIGURATION: configuration, "logins": logins}
    broker = Mosquitto(tmp_path / "broker", lambda: files, port=port, user="mosquitto")
    async with asyncio.TaskGroup() as tasks:
        held = tasks.create_task(broker.run())
        await broker.started()
        for _ in range(5):
            await broker.reload()
        held.cancel()
