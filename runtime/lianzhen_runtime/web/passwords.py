"""Argon2id (RFC 9106), off the event loop, and not more at once than a small box bears."""

import asyncio
from typing import Final

import argon2

from lianzhen_protocol.accounts import password_text

_AT_ONCE: Final = 2
"""64 MiB each: a flood of logins must not push the rest of the program out of memory."""

_DEFAULT: Final = argon2.PasswordHasher()
"""RFC 9106, second recommended option: t=3, m=64 MiB, p=4."""


class Passwords:
    """Hashes and checks; the event loop goes on meanwhile."""

    def __init__(self, hasher: argon2.PasswordHasher = _DEFAULT) -> None:
        self._hasher = hasher
        self._nobody = hasher.hash("nobody")
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def hash(self, password: str) -> str:
        """A PHC string with a fresh salt."""
        async with self._room:
            return await asyncio.to_thread(self._hasher.hash, password_text(password))

    async def fits(self, phc: str | None, password: str) -> bool:
        """Whether it is the password. Without a hash it takes as long, and is not."""
        async with self._room:
            found = await asyncio.to_thread(self._verified, phc or self._nobody, password)
        return found and phc is not None

    def _verified(self, phc: str, password: str) -> bool:
        try:
            return self._hasher.verify(phc, password_text(password))
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
