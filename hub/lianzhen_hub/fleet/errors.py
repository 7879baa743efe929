"""What the hub answers to a box, or to an admin, that it cannot help.

::

    FleetError                    code                  HTTP
    ├── ClaimRefused              claim-refused         403   unknown box or wrong proof, alike
    ├── ClaimUsed                 claim-used            409   by another key
    ├── ClaimExpired              claim-expired         410
    ├── ClaimLocked               claim-locked          403   too many wrong proofs came before
    ├── NonceUnknown              nonce-unknown         409   too old, or used: ask for another
    ├── TooManyRequests           too-many-requests     429   with Retry-After
    ├── RequestTooLarge           request-too-large     413
    ├── CsrRefused                csr-refused           422
    ├── KeyReused                 key-reused            409   a renewal needs a new key
    ├── CertificateMissing        certificate-missing   401   this address is for mTLS
    ├── CertificateUnknown        certificate-unknown   403
    ├── StaleKey                  stale-key             403   superseded: a clone, or its original
    ├── NodeRevoked               node-revoked          403
    ├── ReapprovalRefused         reapproval-refused    403
    └── NodeUnknown               node-unknown          404   to an admin

Codes are stable: a box stops asking on the final ones (docs/protocol.md, 10).
"""

from lianzhen_runtime.errors import LianzhenError


class FleetError(LianzhenError):
    """Base; ``http_status`` is what ``runtime.problems`` answers with."""

    code = "fleet-error"
    http_status = 400


class ClaimRefused(FleetError):
    """No open claim of this box is proved by this request."""

    code = "claim-refused"
    http_status = 403

    def __init__(self) -> None:
        super().__init__("the hub knows no such claim; compare box id and code with the leaflet")


class ClaimUsed(FleetError):
    """Another key has used this claim."""

    code = "claim-used"
    http_status = 409

    def __init__(self) -> None:
        super().__init__("this claim has been used by another box; ask the hub for a new one")


class ClaimExpired(FleetError):
    """The claim's days are over."""

    code = "claim-expired"
    http_status = 410

    def __init__(self) -> None:
        super().__init__("this claim has expired; ask the hub for a new one")


class ClaimLocked(FleetError):
    """The proof is right, but too many wrong ones came before it."""

    code = "claim-locked"
    http_status = 403

    def __init__(self) -> None:
        super().__init__("this claim was locked after wrong attempts; ask the hub for a new one")


class NonceUnknown(FleetError):
    """The nonce was never given out, is too old or was used."""

    code = "nonce-unknown"
    http_status = 409

    def __init__(self) -> None:
        super().__init__("the nonce is used or too old; ask for another and repeat the request")


class TooManyRequests(FleetError):
    """One address asks too often; ``retry_after`` in whole seconds."""

    code = "too-many-requests"
    http_status = 429

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many requests from this address; wait {retry_after} s")
        self.retry_after = retry_after


class HubBusy(FleetError):
    """As many are asking as we serve at a time; ``retry_after`` in whole seconds."""

    code = "hub-busy"
    http_status = 503

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the hub is busy with other boxes; come back in {retry_after} s")
        self.retry_after = retry_after


class RequestTooLarge(FleetError):
    """The body is larger than any request of this protocol."""

    code = "request-too-large"
    http_status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"the request is larger than {limit} bytes")


class CsrRefused(FleetError):
    """Not a certificate request that this hub signs."""

    code = "csr-refused"
    http_status = 422


class KeyReused(FleetError):
    """A renewal over a key that was certified before."""

    code = "key-reused"
    http_status = 409

    def __init__(self) -> None:
        super().__init__("a renewal needs a key that was never certified before")


class CertificateMissing(FleetError):
    """No client certificate came with the connection."""

    code = "certificate-missing"
    http_status = 401

    def __init__(self) -> None:
        super().__init__("this address is only for a box that shows its certificate")


class CertificateUnknown(FleetError):
    """A certificate that this hub has no record of, or of another node."""

    code = "certificate-unknown"
    http_status = 403

    def __init__(self) -> None:
        super().__init__("the hub has no record of this certificate; the box must be claimed again")


class StaleKey(FleetError):
    """A certificate whose successor is in use: one card, two boxes."""

    code = "stale-key"
    http_status = 403

    def __init__(self) -> None:
        super().__init__(
            "a newer certificate of this box is in use; if its card was copied or restored, "
            "the box must be claimed again"
        )


class NodeRevoked(FleetError):
    """An admin has ended this node."""

    code = "node-revoked"
    http_status = 403

    def __init__(self) -> None:
        super().__init__("the hub has revoked this box; it must be claimed again")


class ReapprovalRefused(FleetError):
    """Unknown node, wrong old key, or an admin's no."""

    code = "reapproval-refused"
    http_status = 403

    def __init__(self) -> None:
        super().__init__("the hub does not re-approve this box; it must be claimed again")


class NodeUnknown(FleetError):
    """An admin named a node that does not exist, or has nothing to approve."""

    code = "node-unknown"
    http_status = 404
