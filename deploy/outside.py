"""What people and devices do from outside: a browser, an authenticator app, a modality, a wearable.

Nothing of ours is imported here: what these can do, anybody with the same rights can do.
"""

import base64
import hashlib
import hmac
import http.client
import http.cookiejar
import json
import os
import socket
import ssl
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lab import PATIENCE_SECONDS, LabError

TIMEOUT_SECONDS = 30.0
TOTP_STEP_SECONDS = 30

T = TypeVar("T")

DCMTK = "/usr/bin"
"""pynetdicom brings programs of the same names, which come first in our environment."""


class Page(NamedTuple):
    """What a console answered: its JSON, or its text where it is no JSON."""

    status: int
    body: Any
    url: str


class Browser:
    """A browser that trusts one CA: cookies, forms, JSON. Raises LabError with the page's words.

    Whoever sits before it loads a page again that nobody answered, and takes no for an answer.
    """

    def __init__(self, address: str, ca: str | bytes) -> None:
        """``ca``: the authority that was installed, PEM (str) or DER (bytes)."""
        self.address = address.rstrip("/")
        self._context = ssl.create_default_context(cadata=ca)
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=self._context),
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        )

    def get(self, path: str) -> Any:
        """A page as JSON."""
        return self._good(self.ask("GET", path))

    def post(self, path: str, form: Mapping[str, object] | None = None) -> Any:
        """Send a form."""
        return self._good(self.ask("POST", path, form or {}))

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Page:
        """One request, whatever its answer. OSError if nobody answers for a minute."""
        headers = {"Accept": "application/json", "Origin": self.address}
        content = None
        if body is not None:
            content = json.dumps(dict(body)).encode()
            headers["Content-Type"] = "application/json"
        url = urllib.parse.urljoin(self.address, path)
        request = urllib.request.Request(url, content, headers, method=method)
        return _patiently(lambda: self._once(request))

    def _once(self, request: urllib.request.Request) -> Page:
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return Page(answer.status, _body(answer.read()), answer.url)
        except urllib.error.HTTPError as error:
            with error:
                return Page(error.code, _body(error.read()), request.full_url)

    def download(self, path: str) -> bytes:
        """The bytes behind a link. HTTPError for a refusal."""
        url = urllib.parse.urljoin(self.address, path)

        def once() -> bytes:
            with self._opener.open(urllib.request.Request(url), timeout=TIMEOUT_SECONDS) as answer:
                content: bytes = answer.read()
            return content

        return _patiently(once)

    @staticmethod
    def _good(page: Page) -> Any:
        if page.status >= 400:
            said = page.body.get("detail", page.body) if isinstance(page.body, dict) else page.body
            raise LabError(f"{page.url} answers {page.status}: {str(said)[:300]}")
        return page.body


def _patiently(once: Callable[[], T]) -> T:
    """Ask until somebody answers; the last OSError if nobody does for a minute."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return once()
        except urllib.error.HTTPError:
            raise  # an answer
        except (OSError, http.client.HTTPException):
            if time.monotonic() > until:
                raise
        time.sleep(0.1)


def _body(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


def totp(secret: str, at: float | None = None) -> str:
    """Six digits of an authenticator app (RFC 6238) for a secret in base 32."""
    padded = secret + "=" * (-len(secret) % 8)
    counter = int((time.time() if at is None else at) // TOTP_STEP_SECONDS)
    digest = hmac.new(base64.b32decode(padded), struct.pack(">Q", counter), hashlib.sha1).digest()
    offset = digest[-1] & 15
    number = struct.unpack_from(">I", digest, offset)[0] & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"


PASSWORD = "four cats on a roof"  # noqa: S105 - of people who live for one demonstration


class Person(NamedTuple):
    """Somebody who is signed in to a console."""

    id: str
    name: str
    login: str
    browser: Browser
    secret: str
    """Of the second factor, in base 32; empty without one."""


def second_factor(browser: Browser) -> str:
    """Set an authenticator app up; its secret."""
    secret: str = browser.get("/account/second")["secret"]
    browser.post("/account/second", {"code": totp(secret)})
    return secret


def first_visit(browser: Browser, made: Mapping[str, str], name: str, *, second: bool) -> Person:
    """Sign in with a one-time password, choose another, set a second factor up if need be."""
    browser.post("/login", {"login": made["login"], "password": made["password"]})
    change = {"old": made["password"], "new": PASSWORD, "again": PASSWORD}
    browser.post("/account/password", change)
    secret = second_factor(browser) if second else ""
    return Person(made["id"], name, made["login"], browser, secret)


class Modality:
    """A scanner: dcmtk's storescu under its own AE title."""

    def __init__(self, title: str, port: int, called: str = "LIANZHEN") -> None:
        self._title, self._port, self._called = title, port, called

    def send(self, *files: Path) -> bool:
        """Send files in one association; whether every one of them was acknowledged."""
        command = [
            *(f"{DCMTK}/storescu", "--aetitle", self._title, "--call", self._called),
            *("--propose-lossless", "127.0.0.1", str(self._port), *map(str, files)),
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"TCP_NODELAY": "1"},
        )
        return done.returncode == 0

    def reaches(self) -> bool:
        """Whether anything listens there, which a modality tells from a refusal."""
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self._port)) == 0

    def echo(self) -> bool:
        """C-ECHO: whether we are let in."""
        command = [f"{DCMTK}/echoscu", "--aetitle", self._title, "--call", self._called]
        done = subprocess.run(
            [*command, "127.0.0.1", str(self._port)], capture_output=True, check=False
        )
        return done.returncode == 0
