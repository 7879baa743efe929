"""A fault on a fleet, from being prepared to being over."""

import subprocess
from typing import TYPE_CHECKING

from .faults import (
    HELLO,
    Boundary,
    Cut,
    Fault,
    Ghost,
    HalfOpen,
    Kill,
    Meddling,
    Nothing,
    SystemCall,
    UploadCut,
    Wipe,
)

if TYPE_CHECKING:
    from .fleet_of_faults import Fleet


class Strike:
    """One fault, from being prepared to being over."""

    def __init__(self, fleet: "Fleet", fault: Fault) -> None:
        self._fleet, self._fault = fleet, fault
        self._tracer: subprocess.Popen[bytes] | None = None
        self._victim = getattr(fault, "victim", "")
        self._pid: int | None = None
        self._before = self._applied()
        self._dealt = False
        self._prepare()

    def _applied(self) -> int:
        ledger = self._fleet.pair.ledger
        return sum(max(0, ledger.count(stream)) for stream in self._fleet.promises.records)

    def _prepare(self) -> None:
        fleet = self._fleet
        if self._victim:
            self._pid = fleet.alive(self._victim)
        match self._fault:
            case Boundary(victim, boundary, passing):
                fleet.slates[victim].arm(boundary, passing)
                if HELLO in boundary:
                    fleet.meddler.haunt(0.1)  # the box says it when it comes again
            case SystemCall(_, call, number):
                inject = f"inject={call}:signal=KILL:when={number}"
                self._tracer = subprocess.Popen(
                    ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}",
                     "-e", inject, "-p", str(self._pid)],
                    stderr=subprocess.DEVNULL,
                )  # fmt: skip
            case Cut(way, after):
                fleet.meddler.cut(way, after)
            case UploadCut(after):
                fleet.upload.cut_after = after
            case Meddling(twists):
                fleet.meddler.twist(twists)
            case _:
                pass  # by our hand, when it is time

    def happened(self) -> bool:
        """Whether it has struck; what strikes by our hand strikes here."""
        fleet = self._fleet
        if self._dealt:
            return True
        match self._fault:
            case Nothing():
                return False
            case Boundary() | SystemCall():
                self._dealt = fleet.pid(self._victim) != self._pid
            case Cut() | Meddling():
                self._dealt = not fleet.meddler.busy
            case UploadCut():
                self._dealt = fleet.upload.cut_after is None
            case Kill(victim, after) if self._applied() - self._before >= after:
                fleet.kill(victim)
                self._dealt = True
            case Kill():
                pass
            case HalfOpen(ways, seconds):
                fleet.meddler.deafen(ways, seconds)
                self._dealt = True
            case Ghost(seconds):
                fleet.meddler.haunt(seconds)
                self._dealt = True
            case Wipe():
                fleet.wipe()
                self._dealt = True
        return self._dealt

    def end(self) -> bool:
        """It is over; whether it struck."""
        fleet = self._fleet
        by_our_hand = isinstance(self._fault, (Kill, HalfOpen, Ghost, Wipe))
        struck = self._dealt or (not by_our_hand and self.happened())
        if self._tracer is not None:
            self._tracer.terminate()
            self._tracer.wait()
        for slate in fleet.slates.values():
            slate.disarm()
        fleet.upload.cut_after = None
        if not struck:
            fleet.meddler.calm()
        return struck
