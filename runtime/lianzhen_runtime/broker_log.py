"""What the broker's log says of its sessions, line by line. Pure.

mosquitto has no other way to tell under which client id a user is connected (2.0.11).
Lines, as it writes them::

    New client connected from 10.0.0.7:40412 as k3x9 (p5, c1, k20, u'n0000000001ab').
    Client k3x9 disconnected.
    Client k3x9 closed its connection.
    Client k3x9 already connected, closing old connection.
    Client k3x9 has exceeded timeout, disconnecting.
    OpenSSL Error[0]: error:0A0000C7:SSL routines::peer did not return a certificate
    Reloading config.
    mosquitto version 2.0.11 running
"""

import re
from typing import Final

# A client id is the box's own choice and may hold anything but control characters: the greedy
# middle gives the id, and the broker's own last words the certificate's name.
_NEW: Final = re.compile(r"New client connected from \S+ as (.*) \(p\d, c\d, k\d+, u'([^']*)'\)\.")
_TLS: Final = re.compile(r"(?:OpenSSL Error\[\d+\]:|Client connection from \S+ failed:) .*")
_CLIENT: Final = "Client "
_ENDS: Final = (
    " disconnected.",
    " closed its connection.",
    " has exceeded timeout, disconnecting.",
    " disconnected, not authorised.",
    " been disconnected by administrative action.",
)
_MIDDLES: Final = (" disconnected: ", " disconnected due to ")


class Sessions:
    """Who is connected under which client id, and how often TLS turned somebody away."""

    def __init__(self) -> None:
        self._users: dict[str, str] = {}
        self.refused = 0

    def read(self, line: str) -> None:
        """Take one line of the log."""
        if found := _NEW.fullmatch(line):
            self._users[found[1]] = found[2]
        elif _TLS.fullmatch(line):
            self.refused += 1
        elif line.startswith(_CLIENT):
            # The longest reading that names somebody who is there: an id that is made to look
            # like a message takes only its own session out.
            there = [client for client in _readings(line) if client in self._users]
            if there:
                del self._users[max(there, key=len)]

    def clients(self, user: str) -> list[str]:
        """Client ids under which ``user`` (a certificate's name, or a login) is connected."""
        return [client for client, name in self._users.items() if name == user]

    def __len__(self) -> int:
        return len(self._users)


def _readings(line: str) -> list[str]:
    """Every client id whose end this line may tell."""
    rest = line[len(_CLIENT) :]
    found = [rest.removesuffix(end) for end in _ENDS if rest.endswith(end)]
    return found + [rest[: rest.rindex(middle)] for middle in _MIDDLES if middle in rest]
