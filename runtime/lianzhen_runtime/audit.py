"""The audit log beside the sheets: everything but the SQL, which differs between box and hub.

A row is written in the transaction of what it is about. What it says is sealed; beside it lie its
number, its hash, and a token of the patient's id to find it by.
"""

import secrets
from collections.abc import Iterable
from typing import Final, NamedTuple

from lianzhen_protocol import audit
from lianzhen_protocol.audit import Action, AuditHead, Entry, Head, Row, Verdict
from lianzhen_protocol.errors import SealBroken

from .sheets import SealedSheets

_PATIENT: Final = "patient"


class Stored(NamedTuple):
    """A row as it lies in the table."""

    seq: int
    sealed: bytes
    hash: bytes


class SealedAudit(SealedSheets):
    """Sheets and audit logs, for who supplies the underscored statements as well."""

    def audit_row(self, log: str, at_ms: int, actor: str, action: Action, subject: str) -> None:
        """Add a row to this machine's own log. ValueError for an action that no log knows."""
        if action not in audit.ACTIONS:
            raise ValueError(f"{action!r} is no word of the audit log; see protocol.audit")
        end = self._end(log)
        patient = self._patient_of(subject)
        salt = secrets.token_bytes(audit.SALT_BYTES)
        entry = Entry(at_ms, actor, action, subject, patient, salt)
        row = Row(end.seq + 1, entry, audit.extend(end.hash, end.seq + 1, entry))
        self._keep_row(log, row)
        self._move_end(log, Head(row.seq, row.hash, at_ms))

    def audit_trail(self, log: str, after: int = 0, limit: int | None = None) -> list[Row]:
        """Rows behind number ``after``, opened; ``entry`` is None where one does not open."""
        return [self._opened_row(log, row) for row in self._rows(log, after, limit)]

    def audit_newest(self, log: str, limit: int) -> list[Row]:
        """The last rows, newest first."""
        return list(reversed(self.audit_trail(log, max(0, self._end(log).seq - limit))))

    def audit_of(self, patient: str, limit: int) -> list[tuple[str, Row]]:
        """(log, row) of all that was done with one patient's data, newest first."""
        token = self._token("audit", _PATIENT, patient)
        found = [(log, self._opened_row(log, row)) for log, row in self._rows_about(token, limit)]
        found.sort(key=_newest_first)
        return found[:limit]

    def audit_logs(self) -> list[str]:
        """Every log of which there are rows or heads here."""
        return self._logs()

    def audit_end(self, log: str) -> Head:
        """The head of a log as its last writer left it."""
        return self._end(log)

    def audit_told(self, log: str) -> int:
        """Number of the last row up to which a log was told."""
        return self._told(log)

    def audit_heads(self, log: str) -> list[Head]:
        """Every head of a log that was kept here, and where its writer left it."""
        end = self._end(log)
        return [*self._heads(log), *([end] if end.seq else [])]

    def audit_keep_head(self, said: AuditHead) -> None:
        """Remember what somebody's head was."""
        self._keep_head(said.log, Head(said.seq, said.hash, said.told_ms))

    def audit_take(self, log: str, rows: Iterable[Row], now_ms: int) -> int | None:
        """Rows that another machine tells of its own log; None, or the first that disagrees.

        What was told first stays. What is told later and differs is kept as a head, at which
        ``verify`` then finds the log rewritten.
        """
        end, wrong = self._end(log), None
        for row in rows:
            if row.seq <= end.seq:
                known = self._hash_at(log, row.seq)
                if known != row.hash:
                    wrong = wrong or row.seq
                    self._keep_head(log, Head(row.seq, row.hash, now_ms))
                continue
            follows = row.entry and audit.extend(end.hash, row.seq, row.entry) == row.hash
            if row.seq != end.seq + 1 or not follows:
                wrong = wrong or end.seq + 1
            self._keep_row(log, row)
            end = Head(row.seq, row.hash, now_ms)
        self._move_end(log, end)
        self._keep_head(log, end)
        return wrong

    def audit_verify(self, log: str, heads: Iterable[Head] = ()) -> Verdict:
        """Walk a log against every head that is known, and others that the caller knows."""
        return audit.verify(log, self.audit_trail(log), [*self.audit_heads(log), *heads])

    def _keep_row(self, log: str, row: Row) -> None:
        patient = row.entry.patient if row.entry else ""
        token = self._token("audit", _PATIENT, patient) if patient else None
        plain = audit.encode(row.entry) if row.entry else b""
        self._store_row(
            log, Stored(row.seq, self._seal_at(audit.place(log), plain), row.hash), token
        )

    def _opened_row(self, log: str, row: Stored) -> Row:
        try:
            entry = audit.decode(self._open_at(audit.place(log), row.sealed))
        except (SealBroken, ValueError):
            entry = None
        return Row(row.seq, entry, row.hash)

    def _patient_of(self, subject: str) -> str:
        """Whose data a subject is: the patient, or the owner of the sheet that it names."""
        kind, slash, key = subject.partition("/")
        if not slash or kind == _PATIENT:
            return key or kind
        return self._owner(kind, key) or ""

    # -- what box and hub do each in their way

    def _seal_at(self, place: bytes, plain: bytes) -> bytes:
        raise NotImplementedError

    def _open_at(self, place: bytes, sealed: bytes) -> bytes:
        raise NotImplementedError

    def _owner(self, kind: str, key: str) -> str | None:
        raise NotImplementedError

    def _end(self, log: str) -> Head:
        raise NotImplementedError

    def _move_end(self, log: str, end: Head) -> None:
        raise NotImplementedError

    def _store_row(self, log: str, row: Stored, token: bytes | None) -> None:
        raise NotImplementedError

    def _rows(self, log: str, after: int, limit: int | None) -> list[Stored]:
        raise NotImplementedError

    def _rows_about(self, token: bytes, limit: int) -> list[tuple[str, Stored]]:
        raise NotImplementedError

    def _hash_at(self, log: str, seq: int) -> bytes | None:
        raise NotImplementedError

    def _logs(self) -> list[str]:
        raise NotImplementedError

    def _told(self, log: str) -> int:
        raise NotImplementedError

    def _heads(self, log: str) -> list[Head]:
        raise NotImplementedError

    def _keep_head(self, log: str, head: Head) -> None:
        raise NotImplementedError


def _newest_first(found: tuple[str, Row]) -> tuple[int, int]:
    _, row = found
    return -(row.entry.at_ms if row.entry else 0), -row.seq
