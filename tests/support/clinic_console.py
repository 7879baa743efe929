"""The clinic's console of one area on a real journal, over HTTP, without a program around it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from lianzhen_edge.clinic.app import HERE
from lianzhen_edge.clinic.store import ClinicStore
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.journal.states import Item
from lianzhen_protocol.accounts import Account, Profile, Role, Secret, Stamp
from lianzhen_protocol.identity import RecordId
from lianzhen_runtime.web import sessions
from lianzhen_runtime.web.console import Console, ConsoleSettings
from lianzhen_runtime.web.live import Live
from lianzhen_runtime.web.routes import Routes


class Clinic:
    """As much of a box as its pages need: the journal is real, the uplink is not there."""

    clinic = "青山镇卫生院"

    def __init__(self, journal: Journal, now_ms: int) -> None:
        self.journal = journal
        self.now_ms = now_ms
        self.live = Live()

    @property
    def clock(self) -> "Clinic":
        """Its ``now_ms`` is the box's time."""
        return self

    def when_open(self, opened: Callable[[Journal], None]) -> None:
        opened(self.journal)

    def item(self, identity: RecordId) -> Item | None:
        return self.journal.item(identity, lambda _stream: 0)

    @asynccontextmanager
    async def serving(self, *areas: Routes) -> AsyncIterator["Visitors"]:
        """A client of a console with these areas."""
        settings = ConsoleSettings(title="clinic.title", cookie="test", admits=lambda _: True)
        store: Any = ClinicStore(self)  # type: ignore[arg-type]
        folders = [HERE / "templates"], [HERE / "text"]
        console = Console(settings, store, self.live, lambda: self.now_ms, *folders)
        console.add(areas)
        async with TestClient(TestServer(console.application())) as client:
            yield Visitors(client, store, self.journal)


class Visitors:
    """Asks pages as somebody of a role."""

    def __init__(self, client: Any, store: Any, journal: Journal) -> None:
        self._client, self._store, self._journal = client, store, journal

    async def sign_in(self, login: str, *roles: Role) -> dict[str, str]:
        """The headers of somebody who is signed in."""
        account = Account(
            id=f"account-{login}",
            node=self._journal.node,
            profile=Profile(login=login, name=f"测试{login}", roles=roles),
            secret=Secret(password="$none$", totp="GEZDGNBVGY3TQOJQ"),
            profile_stamp=Stamp(1, ""),
            secret_stamp=Stamp(1, ""),
        )

        def work(pen: Any) -> str:
            pen.put(account)
            return sessions.begin(pen, account, "open")

        return {"Cookie": f"__Host-lz-test={await self._store.write(work)}"}

    async def ask(
        self, who: dict[str, str], method: str, path: str, value: object = None
    ) -> tuple[int, Any]:
        """Status and decoded JSON."""
        more: dict[str, Any] = {} if value is None else {"json": value}
        headers = who | {"Accept": "application/json"}
        async with self._client.request(
            method, path, headers=headers, allow_redirects=False, **more
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    async def page(self, who: dict[str, str], path: str, language: str = "zh-CN") -> str:
        """A page's HTML."""
        headers = {"Cookie": f"{who['Cookie']}; lz-language={language}", "Accept": "text/html"}
        async with self._client.get(path, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return str(await answer.text())
