"""A console without a program around it: sheets in memory, and a clock that the test turns."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import argon2
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from lianzhen_protocol.accounts import Account, Role, settle
from lianzhen_protocol.audit import Action
from lianzhen_protocol.identity import uuid7
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.web import login, staff
from lianzhen_runtime.web.console import Console, ConsoleSettings
from lianzhen_runtime.web.live import Live
from lianzhen_runtime.web.login import Doorman
from lianzhen_runtime.web.passwords import Passwords
from lianzhen_runtime.web.routes import Routes
from lianzhen_runtime.web.staff import Home, NewAccount, Registry
from lianzhen_runtime.web.store import Pen

from .memory_sheets import MemorySheets

T = TypeVar("T")
NODE = "n0123456789ab"
PASSWORD = "four cats on a roof"
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
Client = TestClient[Request, Application]


class _Page(MemorySheets):
    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_800_000_000_000
        self.audited: list[tuple[str, str, str]] = []

    def new_id(self) -> str:
        return uuid7(self.now_ms, secrets.token_bytes(10)).hex()

    def audit(self, actor: str, action: Action, subject: str) -> None:
        self.audited.append((actor, action, subject))


class MemoryStore:
    """``Store`` in a dictionary."""

    def __init__(self) -> None:
        self.page = _Page()

    async def read(self, ask: Callable[[Sheets], T]) -> T:
        return ask(self.page)

    async def write(self, work: Callable[[Pen], T]) -> T:
        return work(Pen(self.page, lambda account, _by: void(settle(self.page, account, NODE))))


def void(_value: object) -> None:
    """Forget a value."""


class House:
    """A console of one clinic, served on plain HTTP for a test; cookies are carried by hand."""

    def __init__(self, *areas: Routes) -> None:
        self.store = MemoryStore()
        settings = ConsoleSettings(
            title="site.name", cookie="test", admits=lambda account: account.node == NODE
        )
        folders: list[Path] = []
        self.console = Console(
            settings, self.store, Live(), lambda: self.store.page.now_ms, folders, folders
        )
        self.registry = Registry(Doorman(self.console, Passwords(CHEAP)), self._homes)
        self.console.add([login.routes(self.registry.doorman), staff.routes(self.registry), *areas])

    async def _homes(self) -> list[Home]:
        return [Home(NODE, "镇卫生院")]

    def later(self, ms: int) -> None:
        """Time passes."""
        self.store.page.now_ms += ms

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Client]:
        """A client of it."""
        async with TestClient(TestServer(self.console.application())) as client:
            yield client

    async def person(
        self, login: str, *roles: Role, password: str = PASSWORD, patient: str = ""
    ) -> Account:
        """An account with a password of its own."""
        wanted = NewAccount(login=login, name=login, roles=list(roles), node=NODE, patient=patient)
        account, _ = await self.registry.make(wanted, "owner", password)
        return account


class Visitor:
    """Asks a console as a program does; keeps its session."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.cookie = ""
        self.last: dict[str, str] = {}

    async def ask(
        self, method: str, path: str, value: object = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and body: JSON decoded, else text."""
        sent = {"Accept": "application/json"}
        sent |= {name.replace("_", "-"): text for name, text in headers.items()}
        if self.cookie:
            sent["Cookie"] = f"__Host-lz-test={self.cookie}"
        body: Any = {"json": value} if value is not None else {}
        async with self._client.request(
            method, path, headers=sent, allow_redirects=False, **body
        ) as answer:
            self.last = {key.lower(): text for key, text in answer.headers.items()}
            if (found := answer.cookies.get("__Host-lz-test")) is not None:
                self.cookie = found.value
            if "json" in answer.content_type:
                return answer.status, await answer.json(content_type=None)
            return answer.status, await answer.text()

    async def sign_in(self, login: str, password: str = PASSWORD, **more: str) -> tuple[int, Any]:
        """Start a session."""
        return await self.ask("POST", "/login", {"login": login, "password": password, **more})
