"""What can go wrong with the journal.

::

    JournalError (LianzhenError)     code
    ├── JournalFull                  journal-full        507
    └── RecordTooLarge               record-too-large    413
"""

from lianzhen_runtime.errors import LianzhenError


class JournalError(LianzhenError):
    """The journal did not take it: nothing was stored, and it may be tried again."""

    code = "journal-failed"
    http_status = 503


class JournalFull(JournalError):
    """The disk is full; it works again when there is space."""

    code = "journal-full"
    http_status = 507


class RecordTooLarge(JournalError):
    """A record over the limit of a frame; large things go by the image upload."""

    code = "record-too-large"
    http_status = 413
