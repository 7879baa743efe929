"""Both sessions together, and the marks that they bring home."""

import asyncio
import secrets
from collections.abc import Iterable

from lianzhen_edge.journal.errors import JournalError
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol.identity import Epoch
from lianzhen_protocol.lanes import Group, Lane, lane_of
from lianzhen_protocol.sender import Advanced
from lianzhen_runtime.flow import Flow
from lianzhen_runtime.log import Log

from . import route
from .dialling import Dialling
from .link import Credentials, Link, LinkStatus, Timekeeper

_RETRY_SECONDS = 2.0
_log = Log("lianzhen.uplink")


class Uplink:
    """Carries the journal to the hub, for ever: ``run`` ends only by being cancelled."""

    def __init__(self, journal: Journal, credentials: Credentials, clock: Timekeeper) -> None:
        instance = secrets.token_bytes(16)
        self._journal = journal
        self._moves: dict[tuple[Epoch, str], Advanced] = {}
        self._moved = asyncio.Event()
        self._links = {
            group: Link(group, journal, credentials, clock, instance, self._collect, self._welcomed)
            for group in Group
        }
        self._dialling = {
            group: Dialling(f"uplink {group}", link.run, link.probe)
            for group, link in self._links.items()
        }
        journal.on_append(self._appended)

    async def run(self) -> None:
        """Hold both sessions, each coming back on its own after it was lost."""
        with route.watched(self._line_is_back):
            async with asyncio.TaskGroup() as services:
                services.create_task(self._keep_marks(), name="marks")
                for group, dialling in self._dialling.items():
                    services.create_task(dialling.run(), name=group)

    def renew(self, credentials: Credentials) -> None:
        """Go on under a new certificate."""
        for link in self._links.values():
            link.renew(credentials)

    def sent(self, stream: str) -> int:
        """How far a stream was handed to the line."""
        return self._links[lane_of(stream).group].sent(stream)

    @property
    def status(self) -> list[LinkStatus]:
        """Both sessions as status pages show them."""
        return [link.status for link in self._links.values()]

    @property
    def flows(self) -> dict[Lane, Flow]:
        """What each lane carried since the start."""
        return {
            lane: flow for link in self._links.values() for lane, flow in link.traffic.flows.items()
        }

    def _welcomed(self, group: Group) -> None:
        """Where one session is through, the other gets through as well."""
        self._dialling[group].worked()
        for other, dialling in self._dialling.items():
            if other is not group:
                dialling.line_is_back()

    def _line_is_back(self) -> None:
        for dialling in self._dialling.values():
            dialling.line_is_back()

    def _appended(self, streams: set[str]) -> None:
        if any(lane_of(stream).group is Group.URGENT for stream in streams):
            self._dialling[Group.URGENT].hurry()

    def _collect(self, epoch: Epoch, moves: Iterable[Advanced]) -> None:
        for move in moves:
            self._moves[epoch, move.stream] = move
            self._moved.set()

    async def _keep_marks(self) -> None:
        """Note marks in the journal, beside the sending: losing one costs a repetition, no more."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            moves, self._moves = self._moves, {}
            try:
                await self._journal.advance([(epoch, move) for (epoch, _), move in moves.items()])
                _log.transition("marks", "kept")
            except JournalError as error:
                _log.transition("marks", "cannot be kept", bad=True, code=error.code)
                self._moves = moves | self._moves
                await asyncio.sleep(_RETRY_SECONDS)
                self._moved.set()
