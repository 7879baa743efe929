"""The box as a whole: from blank to enrolled, then journal and uplink, and how it all is."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from prometheus_client.core import Metric

from lianzhen_protocol import claims
from lianzhen_protocol.claims import Claim
from lianzhen_protocol.errors import ClaimError
from lianzhen_protocol.identity import HUB_NAME, NodeId, RecordId
from lianzhen_runtime import tls
from lianzhen_runtime.child import Child
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.files import private_folder, read_secret, remove_durably, write_durably
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.log import Log
from lianzhen_runtime.mqtt import Address
from lianzhen_runtime.signer import SignerTrust
from lianzhen_runtime.supervise import supervised
from lianzhen_runtime.web.live import Live

from . import __version__, sync
from .appliance import enrolment, identity
from .appliance.browser_trust import BrowserAuthority
from .appliance.clock import TrustedClock
from .appliance.hardware import hardware_id
from .appliance.identity import Identity
from .clinic.setup import remember
from .devices.broker import Listeners
from .devices.devices import Devices
from .dicom.imaging import Imaging
from .dicom.room import ImageShare
from .dicom.upload import Line
from .journal.journal import Journal
from .journal.room import Share
from .journal.states import Item, StreamState
from .meanings import MEANINGS
from .metrics import metrics
from .opinions.keeper import Opinions
from .printing.printing import Printing
from .services import services
from .settings import Settings
from .status import BoxStatus, Health
from .storage import Storage
from .sync import LaneState
from .uplink.link import Credentials
from .uplink.uplink import Uplink

BUILT_MS = 1_795_392_000_000
"""When this release was made: no clock is ever believed to be before it."""

_log = Log("lianzhen.box")


class NotEnrolled(LianzhenError):
    """The box has no identity yet."""

    code = "not-enrolled"
    http_status = 409


class NotReady(LianzhenError):
    """The box has an identity, and is about to open its journal."""

    code = "not-ready"
    http_status = 503


class EnrolledAlready(LianzhenError):
    """A box has one identity; another needs a factory reset."""

    code = "enrolled-already"
    http_status = 409


class Box:
    """``run`` it; everything else may be asked at any time."""

    def __init__(self, settings: Settings, command: Sequence[str]) -> None:
        self.settings = settings
        self._command = command
        self._folder = settings.folder
        self._identities = private_folder(self._folder / "identity")
        self._share = Share(settings.journal_quota_mb << 20, settings.disk_reserve_mb << 20)
        self._hardware = Path(settings.hardware_id_file) if settings.hardware_id_file else None
        self.clock = TrustedClock(self._folder, BUILT_MS)
        self._claim_file = self._folder / "claim"
        self._claimed = asyncio.Event()
        self._identity: Identity | None = identity.load(self._identities)
        self._state, self._sentence = "starting", "the box is starting"
        self._journal: Journal | None = None
        self._uplink: Uplink | None = None
        self._imaging: Imaging | None = None
        self._openers: list[Callable[[Journal], None]] = []
        self.live = Live()
        """What the console's pages are told as it happens."""
        self.opinions = Opinions(lambda: self.journal, self._ca, self._now_ms)
        self.printing = Printing(settings, lambda: self.journal, self.opinions, self._now_ms)
        self.browser_fingerprint = ""
        """SHA-256 of the authority that PCs install to trust the console."""
        self.authority = BrowserAuthority(self._folder / "browser", self.clock.now)
        self.storage = Storage(settings, lambda: self.journal, lambda: self.imaging.room)
        self.devices = Devices(
            self._folder / "devices",
            Listeners(settings.listen, settings.device_port, settings.device_plain_port),
            lambda: self.journal,
            self.authority,
            self.clock,
        )

    # -- life

    def _ca(self) -> str:
        if self._identity is None:
            raise NotEnrolled("this box is not enrolled yet; 'lianzhen-edge status' says why")
        return self._identity.ca + identity.past_anchors(self._identities)

    def when_open(self, opener: Callable[[Journal], None]) -> None:
        """Call ``opener`` with the journal as soon as there is one, before any service runs."""
        self._openers.append(opener)

    async def run(self) -> None:
        """Enrol if need be, then carry the journal to the hub, for ever."""
        who = self._identity = self._identity or await self._enrol()
        self._journal = await Journal.open(
            self._folder / "journal.db",
            who.node,
            self.keys,
            self._now_ms,
            hardware_id(self._hardware),
            self._share,
            MEANINGS,
        )
        try:
            uplink = self._uplink = Uplink(self._journal, self._credentials(who), self.clock)
            self._imaging = self._new_imaging()
            for opener in self._openers:
                opener(self._journal)
            self._enter("enrolled", "")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(uplink.run(), name="uplink")
                tasks.create_task(self._keep_certificate(uplink), name="certificate")
                tasks.create_task(self._follow_claims(uplink), name="claims")
                tasks.create_task(self.clock.keep(), name="clock")
                tasks.create_task(enrolment.set_clock(who, self.clock), name="time")
                for name, run, faults in services(self):
                    tasks.create_task(supervised(name, run, faults=faults, cap=5.0), name=name)
        finally:
            await self._journal.close()

    def child(self, verb: str, *arguments: str) -> Child:
        """Another process of this box: its own command line with the same configuration."""
        return Child(verb, [*self._command, verb, *arguments])

    def _new_imaging(self) -> Imaging:
        settings = self.settings
        return Imaging(
            self,
            settings.folder,
            port=settings.dicom_port or settings.dicom_tls_port,
            title=settings.dicom_ae_title,
            share=ImageShare.of(settings),
        )

    def hub_line(self) -> Line:
        """Where the hub's HTTPS is, with the certificate of now."""
        who = self._identity
        if who is None:
            raise NotEnrolled("this box is not enrolled yet; 'lianzhen-edge status' says why")
        own = (who.certificate_file, who.key_file)
        return Line(who.hub, tls.client_context(who.ca, self.clock.now, HUB_NAME, own))

    def claim(self, claim: Claim) -> None:
        """Take a claim; enrolment begins at once. An enrolled box keeps its identity, and follows
        only the claim of a hub whose authority it does not know.
        """
        if self._identity is not None and enrolment.knows(self._identity, claim.pin):
            raise EnrolledAlready(f"this box is enrolled already, as {self._identity.node}")
        write_durably(self._claim_file, str(claim).encode())
        self._claimed.set()

    async def _enrol(self) -> Identity:
        """Wait for a claim that the hub accepts. The claim stays on the disk until it is used."""
        while True:
            claim = await self._next_claim()
            remember(self._folder, claim)
            self._enter("enrolling", f"enrolling at {claim.hub}")
            try:
                found = await enrolment.enrol(claim, self._identities, self.clock)
            except enrolment.EnrolmentRefused as refusal:
                _log.error("enrolment refused", code=refusal.code)
                self._enter("refused", str(refusal))
                remove_durably(self._claim_file)
            else:
                remove_durably(self._claim_file)
                return found

    async def _next_claim(self) -> Claim:
        while True:
            if self._claim_file.exists():
                try:
                    return claims.parse(read_secret(self._claim_file).decode())
                except (ClaimError, UnicodeDecodeError) as error:
                    self._enter("refused" if self._identity is None else "enrolled", str(error))
                    remove_durably(self._claim_file)
            elif self._state == "starting":
                self._enter("unclaimed", "this box is blank: claim it with 'lianzhen-edge claim'")
            self._claimed.clear()
            await self._claimed.wait()

    async def _keep_certificate(self, uplink: Uplink) -> None:
        async for renewed in enrolment.keep_certificate(self._identities, self.clock):
            self._identity = renewed
            uplink.renew(self._credentials(renewed))

    async def _follow_claims(self, uplink: Uplink) -> None:
        """The hub changed its authority: a claim with its pin leads this box there."""
        while True:
            claim, who = await self._next_claim(), self._identity
            if who is not None and not enrolment.knows(who, claim.pin):
                self._enter("enrolled", "the hub's new authority waits for its admin's approval")
                try:
                    self._identity = await enrolment.follow(
                        claim, who, self._identities, self.clock
                    )
                except enrolment.EnrolmentRefused as refusal:
                    _log.error("the claim was not followed", code=refusal.code)
                    self._enter("enrolled", str(refusal))
                else:
                    self._enter("enrolled", "")
                    uplink.renew(self._credentials(self._identity))
            remove_durably(self._claim_file)

    def _credentials(self, who: Identity) -> Credentials:
        own = (who.certificate_file, who.key_file)
        return Credentials(
            node=who.node,
            serial=who.serial,
            address=Address(who.mqtt_host, who.mqtt_port),
            trust=SignerTrust(who.ca),
            context=partial(tls.client_context, who.ca, self.clock.now, HUB_NAME, own),
        )

    def _enter(self, state: str, sentence: str) -> None:
        self._state, self._sentence = state, sentence
        _log.transition("box", state, bad=state == "refused")

    def _now_ms(self) -> int:
        return self.clock.now_ms

    # -- what it tells

    @property
    def journal(self) -> Journal:
        """The journal; NotEnrolled or NotReady before there is one."""
        if self._journal is None and self._identity is not None:
            raise NotReady("the box is starting; try again")
        if self._journal is None:
            raise NotEnrolled("this box is not enrolled yet; 'lianzhen-edge status' says why")
        return self._journal

    @property
    def keys(self) -> FileKeys:
        """Key-encryption keys of everything that this box seals."""
        return FileKeys(self._folder / "keys")

    @property
    def node(self) -> NodeId:
        """Who this box is; NotEnrolled while it is nobody."""
        if self._identity is None:
            raise NotEnrolled("this box is not enrolled yet; 'lianzhen-edge status' says why")
        return self._identity.node

    @property
    def imaging(self) -> Imaging:
        """Images; NotEnrolled or NotReady before there is a journal to write them in."""
        _ = self.journal
        if self._imaging is None:
            raise NotReady("the box is starting; try again")
        return self._imaging

    @property
    def clinic(self) -> str:
        """The clinic's name, as the hub knows it; "" on a blank box."""
        return self._identity.clinic if self._identity else ""

    def item(self, identity: RecordId) -> Item | None:
        """What became of a record."""
        return self.journal.item(identity, self.sent)

    def sent(self, stream: str) -> int:
        """How far a stream was handed to the line."""
        return self._uplink.sent(stream) if self._uplink else 0

    def status(self) -> BoxStatus:
        """Everything at once."""
        who, journal = self._identity, self._journal
        now_ms, ends_ms = self.clock.now_ms, int(who.not_after * 1000) if who else None
        streams = journal.stream_states() if journal else []
        links, lanes = self._uplink.status if self._uplink else [], self._lanes(streams)
        return BoxStatus(
            state=self._state,
            sentence=self._sentence,
            version=__version__,
            node=who.node if who else None,
            clinic=who.clinic if who else None,
            now_ms=now_ms,
            clock_offset_ms=int(self.clock.offset * 1000),
            certificate_ends_ms=ends_ms,
            links=links,
            streams=streams,
            held=journal.held() if journal else 0,
            lanes=lanes,
            concerns=sync.concerns(self._state, now_ms, ends_ms, links, lanes, self.storage.causes),
            storage=self.storage.state,
            browser_fingerprint=self.browser_fingerprint,
        )

    def _lanes(self, streams: list[StreamState]) -> list[LaneState]:
        found = sync.record_lanes(streams, self._uplink.flows if self._uplink else {})
        if self._journal is not None and self._imaging is not None:
            found.append(sync.images_lane(self._journal, self._imaging.uploader.flow))
        return found

    def health(self) -> Health:
        """Healthy: the programs part works. A line that is down is no fault of the box."""
        return Health(
            ok=self._state != "refused",
            program="lianzhen-edge",
            version=__version__,
            node=self._identity.node if self._identity else None,
            state=self._state,
        )

    def metrics(self) -> Iterable[Metric]:
        """For Prometheus; names end in their unit."""
        return metrics(self.status())
