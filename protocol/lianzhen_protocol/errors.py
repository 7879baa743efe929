"""Everything that can be wrong with what a peer sent.

::

    ProtocolError                 code
    ├── Malformed                 bytes or text that are not what the protocol says
    │   ├── IdentityError         identity-malformed
    │   ├── TopicError            topic-malformed
    │   ├── FrameError            frame-malformed, frame-version, frame-too-large
    │   ├── MessageError          message-malformed
    │   ├── RecordError           record-malformed, record-kind-unknown, record-version, ...
    │   │   └── PatientError      patient-malformed, id-number-check, patient-number-check, ...
    │   ├── ClaimError            claim-malformed
    │   ├── ReadingError          reading-malformed, unit-unknown, implausible, clock-moved, ...
    │   ├── VitalsError           vitals-impossible
    │   ├── NotCanonical          not-canonical
    │   ├── DocumentError         opinion-malformed, opinion-hidden-character
    │   ├── TableError            table-malformed
    │   └── SettlementError       settlement-malformed, settlement-no-tariff
    ├── LedgerError               transfer-malformed, transfer-id-reused, transfer-resolved, ...
    ├── SignatureInvalid          signature-invalid
    └── SealBroken                seal-broken

``code`` is stable and may be matched on; the text is for a person and says what to do.
"""


class ProtocolError(Exception):
    """Base of this package's errors; ``code`` is stable, ``str()`` is for a person."""

    code = "protocol-error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class Malformed(ProtocolError, ValueError):
    """The input is not what the protocol says."""

    code = "malformed"


class IdentityError(Malformed):
    """Not a node id, epoch or record id."""

    code = "identity-malformed"


class TopicError(Malformed):
    """Not a topic of the tree."""

    code = "topic-malformed"


class FrameError(Malformed):
    """Not a frame that this version can read."""

    code = "frame-malformed"


class MessageError(Malformed):
    """Not a hello, welcome or acknowledgement."""

    code = "message-malformed"


class RecordError(Malformed):
    """A record that cannot be understood: it goes to quarantine, its stream goes on."""

    code = "record-malformed"


class ReadingError(Malformed):
    """A reading of vital signs that cannot be used; the device page shows why."""

    code = "reading-malformed"


class PatientError(RecordError):
    """What is said of a patient, a binding or a join cannot be so; nothing was changed."""

    code = "patient-malformed"


class ClaimError(Malformed):
    """Not a claim as the hub prints it."""

    code = "claim-malformed"


class VitalsError(Malformed):
    """A number that no living body shows."""

    code = "vitals-impossible"


class TableError(Malformed):
    """A table that is data (acuity, policies) cannot be used as it stands."""

    code = "table-malformed"


class NotCanonical(Malformed):
    """Not the one text of its value (RFC 8785), or a value that has none."""

    code = "not-canonical"


class DocumentError(Malformed):
    """Not an opinion that this release can read, or a text that may not be signed."""

    code = "opinion-malformed"


class SettlementError(Malformed):
    """Rules of settlement that cannot be read, or that say nothing about a service."""

    code = "settlement-malformed"


class LedgerError(ProtocolError):
    """A transfer that the ledger refuses; nothing of it was entered."""

    code = "transfer-malformed"


class SignatureInvalid(ProtocolError):
    """Signed by somebody else, for somebody else, or changed on the way."""

    code = "signature-invalid"


class SealBroken(ProtocolError):
    """A sealed blob was changed, moved to another place, or belongs to another key."""

    code = "seal-broken"
