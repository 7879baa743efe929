"""A modality that asks for storage commitment and listens for the report, by pynetdicom."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, generate_uid
from pynetdicom import AE, evt

from lianzhen_edge.dicom.services.commitment import INSTANCE, SOP_CLASS


@dataclass
class Modality:
    """CT1 as it asks and as it listens."""

    told: list[tuple[int, Dataset]] = field(default_factory=list)
    heard: threading.Event = field(default_factory=threading.Event)
    status: int = 0x0000

    def hear(self, event: Any) -> tuple[int, Dataset | None]:
        self.told.append((event.event_type, event.event_information))
        self.heard.set()
        return self.status, None

    @property
    def handlers(self) -> list[Any]:
        return [(evt.EVT_N_EVENT_REPORT, self.hear)]

    @contextmanager
    def listening(self) -> Iterator[int]:
        entity = AE(ae_title="CT1")
        entity.add_supported_context(SOP_CLASS, scu_role=True, scp_role=True)
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=self.handlers)
        assert server is not None
        yield int(server.server_address[1])
        server.shutdown()

    def ask(
        self,
        port: int,
        images: Sequence[Dataset],
        transaction: str,
        *,
        stay: bool,
        action: int = 1,
        instance: str = INSTANCE,
    ) -> int:
        """N-ACTION; ``stay``: until the report comes."""
        entity = AE(ae_title="CT1")
        entity.acse_timeout = entity.dimse_timeout = 120
        entity.add_requested_context(SOP_CLASS)
        opened = entity.associate("127.0.0.1", port, evt_handlers=self.handlers)
        assert opened.is_established
        asked = Dataset()
        asked.TransactionUID = transaction
        asked.ReferencedSOPSequence = [reference(image) for image in images]
        answer, _ = opened.send_n_action(asked, action, SOP_CLASS, instance)
        if stay:
            assert self.heard.wait(60)
        opened.release()
        return int(answer.Status)

    def report(self) -> tuple[int, str, set[str], dict[str, int]]:
        """(event, transaction, committed, failed with reasons) of the last one."""
        event, said = self.told[-1]
        done = {
            str(each.ReferencedSOPInstanceUID) for each in said.get("ReferencedSOPSequence", [])
        }
        failed = {
            str(each.ReferencedSOPInstanceUID): int(each.FailureReason)
            for each in said.get("FailedSOPSequence", [])
        }
        return event, str(said.TransactionUID), done, failed


def reference(image: Dataset) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID = image.SOPClassUID
    made.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return made


def missing(sop_class: str = CTImageStorage) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = sop_class, generate_uid()
    return made


def uids(images: Sequence[Dataset]) -> set[str]:
    return {str(image.SOPInstanceUID) for image in images}
