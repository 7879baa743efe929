"""The two consoles as a program uses them: JSON over HTTPS, accounts of every role.

``Caller`` is one signed-in (or unknown) visitor. ``People`` makes accounts through the owner's
socket and signs them in, once a role.
"""

import http.client
import json
import ssl
import time
from pathlib import Path
from typing import Any, NamedTuple

from lab import BoxProgram, HubProgram, ask
from lianzhen_protocol.accounts import TWO_FACTORS, Role, totp_code

PASSWORD = "four cats on a roof"


_BYTES = ("image/", "application/dicom", "application/octet-stream", "application/zip")


class Reply(NamedTuple):
    """Status, lower-case headers, and the body: decoded where it is JSON."""

    status: int
    headers: dict[str, str]
    body: Any


class Caller:
    """Speaks to a console on loopback; keeps the session's cookie."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: dict[str, str] = {}

    def call(
        self, method: str, path: str, value: object = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request; ``value`` goes as JSON."""
        context = ssl._create_unverified_context()  # trust has tests of its own
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context, timeout=60
        )
        sent = {"Accept": "application/json"} | (headers or {})
        body = None
        if value is not None:
            sent, body = {"Content-Type": "application/json"} | sent, json.dumps(value)
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={text}" for name, text in self.cookies.items())
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            # A stream of events has no end.
            endless = answer.headers.get_content_type() == "text/event-stream"
            content = b"" if endless else answer.read()
        finally:
            connection.close()
        for line in answer.headers.get_all("Set-Cookie") or []:
            name, _, text = line.split(";")[0].partition("=")
            self.cookies[name] = text
        found = {key.lower(): text for key, text in answer.headers.items()}
        is_json = "json" in found.get("content-type", "")
        if found.get("content-type", "").startswith(_BYTES):
            return Reply(answer.status, found, content)
        return Reply(answer.status, found, json.loads(content) if is_json else content.decode())

    def get(self, path: str, **headers: str) -> Reply:
        """GET as a program; headers with underscores for hyphens."""
        return self.call("GET", path, headers=_named(headers))

    def post(self, path: str, value: object = None, **headers: str) -> Reply:
        """POST a JSON object."""
        return self.call("POST", path, {} if value is None else value, _named(headers))


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): text for name, text in headers.items()}


class Person(NamedTuple):
    """An account that is signed in."""

    id: str
    login: str
    password: str
    totp: str
    caller: Caller


def code_of(secret: str, steps: int = 0) -> str:
    """The code of a second factor now, or some steps later."""
    return totp_code(secret, int(time.time()) // 30 + steps)


def enter(port: int, made: dict[str, Any], *, second: bool, password: str = PASSWORD) -> Person:
    """First sign-in with a one-time password: change it, set up the second factor if need be."""
    caller = Caller(port)
    reply = caller.post("/login", {"login": made["login"], "password": made["password"]})
    assert reply.status == 200, reply
    change = {"old": made["password"], "new": password, "again": password}
    assert (reply := caller.post("/account/password", change)).status == 200, reply
    secret = ""
    if second:
        secret = caller.get("/account/second").body["secret"]
        reply = caller.post("/account/second", {"code": code_of(secret)})
        assert reply.status == 200, reply
    return Person(made["id"], made["login"], password, secret, caller)


class People:
    """Accounts of one program, each made when it is first asked for."""

    def __init__(self, socket: Path, port: int, name: str = "one") -> None:
        self._socket = socket
        self._name = name
        self.port = port
        self._known: dict[Role, Person] = {}

    def make(self, login: str, *roles: Role, node: str = "", patient: str = "") -> dict[str, Any]:
        """An account with its one-time password: id, login, password."""
        names = {"login": login, "name": f"测试{login}", "node": node, "patient": patient}
        wanted = names | {"roles": list(roles)}
        answer = ask(self._socket, "POST", "/accounts", json.dumps(wanted).encode())
        assert answer.status == 201, answer.body
        return dict(answer.body)

    def of(self, role: Role) -> Person:
        """Somebody of that role, signed in."""
        if role not in self._known:
            made = self.make(
                f"{role}.{self._name}", role, patient="ab" * 16 if role is Role.PATIENT else ""
            )
            self._known[role] = enter(self.port, made, second=role in TWO_FACTORS)
        return self._known[role]


def clinic_people(box: BoxProgram, name: str = "one") -> People:
    """Of a box's clinic; ``name`` tells them from others there."""
    return People(box.state / "control.sock", box.console_port, name)


def hub_people(hub: HubProgram) -> People:
    """Of a hub."""
    return People(hub.state / "admin.sock", hub.console_port)
