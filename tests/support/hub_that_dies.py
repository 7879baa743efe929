"""A hub's broker in a program of its own, to be killed: argument 1 a folder, 2 a port."""

import asyncio
import sys
from pathlib import Path

from lianzhen_hub.broker.configuration import BrokerSettings
from lianzhen_hub.broker.mosquitto import Broker
from lianzhen_hub.fleet.authority import Authority


async def main(folder: Path, port: int) -> None:
    """Run until killed; the broker's process id goes to standard output."""
    authority = Authority(folder / "ca")
    settings = BrokerSettings(address="127.0.0.1", port=port)
    broker = Broker(folder / "broker", settings, authority)
    await broker.reload(authority.revocation_list([]), ())
    async with asyncio.TaskGroup() as services:
        services.create_task(broker.run())
        await broker.started()
        print(broker.pid, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
