"""Which boxes a person should look at, and why. Pure.

A clinic's line is often down, so a box that is offline is no concern for a day; one whose records
wait for long, or that was never heard of, is.
"""

from typing import Final, NamedTuple

NEVER: Final = "never"
FORKED: Final = "forked"
STALLED: Final = "stalled"
SILENT: Final = "silent"
QUARANTINE: Final = "quarantine"
CONCERNS: Final = (NEVER, FORKED, STALLED, SILENT, QUARANTINE)
"""The most pressing first."""

STALLED_MS: Final = 15 * 60_000
SILENT_MS: Final = 24 * 3_600_000
FORKED_MS: Final = 7 * 24 * 3_600_000
"""How long a fork stands out; its notice stays."""


class Standing(NamedTuple):
    """What is known of a box that is in service. Times by the hub's clock, ages of what waits by
    the box's, which the hub sets.
    """

    enrolled_ms: int
    heard_ms: int | None
    """When it last came or went; None: never."""
    online: bool
    oldest_ms: int | None
    """When the oldest of what it last said to wait was put."""
    forked_ms: int | None
    held: int
    """Records of it in quarantine."""


def concerns(box: Standing, now_ms: int) -> list[str]:
    """Codes, the most pressing first; empty for a box that is well."""
    found = {
        NEVER: box.heard_ms is None and now_ms - box.enrolled_ms > STALLED_MS,
        FORKED: box.forked_ms is not None and now_ms - box.forked_ms < FORKED_MS,
        STALLED: box.oldest_ms is not None and now_ms - box.oldest_ms > STALLED_MS,
        SILENT: not box.online and box.heard_ms is not None and now_ms - box.heard_ms > SILENT_MS,
        QUARANTINE: box.held > 0,
    }
    return [code for code in CONCERNS if found[code]]
