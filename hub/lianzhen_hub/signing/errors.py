"""What the hub refuses around signing.

::

    SigningError (LianzhenError)     code                       status
    ├── RequestRefused               signing-request-refused    422
    ├── NotConfirmed                 signing-not-confirmed      422
    ├── NoCertificate                signing-no-certificate     409
    ├── Decided                      signing-decided            409
    ├── NoSuchSigning                signing-unknown            404
    ├── DraftBehind                  draft-behind               409
    ├── NotReadyToSign               opinion-incomplete         422
    └── OpinionDiffers               opinion-differs            409
"""

from lianzhen_runtime.errors import LianzhenError


class SigningError(LianzhenError):
    """Base of them."""

    code = "signing-refused"
    http_status = 409


class RequestRefused(SigningError):
    """A request for a certificate that cannot be taken."""

    code = "signing-request-refused"
    http_status = 422


class NotConfirmed(SigningError):
    """An admin confirms identity and licence, both, or issues nothing."""

    code = "signing-not-confirmed"
    http_status = 422


class NoCertificate(SigningError):
    """This expert has no certificate that is in force."""

    code = "signing-no-certificate"


class Decided(SigningError):
    """It was decided already."""

    code = "signing-decided"


class NoSuchSigning(SigningError):
    """There is no such request or certificate."""

    code = "signing-unknown"
    http_status = 404


class DraftBehind(SigningError):
    """The draft was saved from another page meanwhile."""

    code = "draft-behind"


class NotReadyToSign(SigningError):
    """Something is missing in what is to be signed."""

    code = "opinion-incomplete"
    http_status = 422


class OpinionDiffers(SigningError):
    """What was signed is not what is to be signed now."""

    code = "opinion-differs"
