"""Every box holds the list: at once when it is new, every hour, and when somebody was revoked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast

from lianzhen_hub.fleet.authority import Authority
from lianzhen_hub.hub import Hub
from lianzhen_hub.signing import certificates
from lianzhen_hub.signing.certificates import Ending
from lianzhen_hub.signing.keeper import ListKeeper
from lianzhen_protocol.opinion import TrustRevocations
from lianzhen_protocol.opinion_sheets import SigningCertificate, WrappedKey
from lianzhen_protocol.opinion_trust import Holder, RevocationList
from support.consultations import NODE
from support.signers import key_of
from unit.consultations.desk import Desk

OTHER = "n0123456789ac"
HOUR_MS = 3_600_000


class SmallHub:
    """What the keeper needs of a hub, on a real database, without a broker."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk = desk
        self.authority = Authority(folder / "ca", lambda: desk.now_ms / 1000)
        self.fleet = self
        self.nodes = frozenset({NODE})
        self.watchers: list[Callable[[Collection[tuple[str, str]]], None]] = []

    def active(self) -> frozenset[str]:
        return self.nodes

    def now_ms(self) -> int:
        return self.desk.now_ms

    def on_change(self, watcher: Callable[[Collection[tuple[str, str]]], None]) -> None:
        self.watchers.append(watcher)

    async def consult(self, work: Any) -> Any:
        return await self.desk.work(work)

    transact = consult

    async def numbers(self, node: str = NODE) -> list[int]:
        """Numbers of the lists that went down to a box."""
        down = await self.desk.down("record.trust", node)
        lists = [body.revocations for body in down if isinstance(body, TrustRevocations)]
        return [RevocationList(der, [self.authority.root]).number for der in lists]

    async def certified(self) -> str:
        """A certificate of an account that there is not."""
        holder = Holder("e" * 32, "吴", "主任医师", "1")
        made = self.authority.issue_expert(key_of(3).public_key(), holder)
        held = SigningCertificate(
            serial=f"{made.serial_number:x}",
            account=holder.account,
            name=holder.name,
            title=holder.title,
            licence=holder.licence,
            certificate=b"",
            wrapped=WrappedKey(iterations=1, salt="", nonce="", sealed=""),
            state="active",
            begins_ms=self.desk.now_ms,
            ends_ms=self.desk.now_ms + HOUR_MS,
            approved_by="",
        )
        await self.desk.work(lambda page: page.put(held))
        return held.serial


async def test_lists_reach_every_box(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        hub = SmallHub(desk, tmp_path)
        keeper = ListKeeper(cast("Hub", hub))
        await keeper.step()
        (first,) = await hub.numbers()
        await keeper.step(False)
        assert await hub.numbers() == [first]  # nothing new, nothing sent

        hub.nodes = frozenset({NODE, OTHER})
        await keeper.step(False)
        assert (await hub.numbers(), await hub.numbers(OTHER)) == ([first], [first])

        desk.now_ms += HOUR_MS
        await keeper.step(False)
        second = (await hub.numbers())[-1]
        assert second > first
        assert await hub.numbers(OTHER) == [first, second]

        serial = await hub.certified()
        await keeper.step()  # its account is not there, so it ends
        third = (await hub.numbers())[-1]
        down = (await desk.down("record.trust"))[-1]
        assert isinstance(down, TrustRevocations)
        listed = RevocationList(down.revocations, [hub.authority.root])
        assert third > second
        assert listed.revoked(int(serial, 16)) is not None
        assert await hub.numbers(OTHER) == [first, second, third]

        other = await hub.certified()
        ending = Ending(reason="离职", leaked=True)
        await desk.work(lambda page: certificates.revoke(page, hub.authority, None, other, ending))
        await keeper.step(False)
        assert len(await hub.numbers()) == 4
