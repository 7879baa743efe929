"""How ``audit verify`` says what it found, the same on both command lines."""

from collections.abc import Iterable

from lianzhen_protocol.audit import Head, Verdict
from lianzhen_runtime.errors import ConfigError


def report(verdicts: Iterable[Verdict]) -> tuple[list[str], int]:
    """Lines for a person, and the exit status: 0 if every log is whole, 1 if any is not."""
    lines, status = [], 0
    for each in verdicts:
        if each.finding is not None:
            lines.append(f"BROKEN  {each.finding.sentence}")
            status = 1
        else:
            lines.append(
                f"whole   log {each.log}: {each.rows} rows, {each.heads} heads agree; "
                f"head {each.head.seq}:{each.head.hash.hex()}"
            )
    return lines, status


def head_of(text: str) -> Head:
    """A head as ``report`` prints it, ``SEQ:HASH``; ConfigError for anything else."""
    number, _, digits = text.partition(":")
    try:
        return Head(int(number), bytes.fromhex(digits))
    except ValueError as error:
        raise ConfigError(f"--head {text[:40]}: not a head like 12:0f3a...") from error
