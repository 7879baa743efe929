"""Where core and the triage process meet."""

from typing import Final

SOCKET: Final = "triage.sock"
"""In the state folder; only its owner may open it."""
