"""The box's command line. Every verb but ``run`` and ``check-config`` speaks to a running box."""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from lianzhen_runtime.commandline import (
    RefusedForNow,
    ask,
    common_options,
    in_one_sentence,
    pretty,
    settings_of,
)
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.ids import new_id
from lianzhen_runtime.retry import pause
from lianzhen_runtime.web import owner_verbs

from . import __version__
from .settings import DEFAULT_FILE, Settings

# What a verb needs beyond these is imported by it: on a small board each library is felt.

LOOK = 3
"""Exit status of ``status`` where a person should look: neither 1, no answer, nor 2."""

BATCH = 200
"""Records in one request of ``put``: one sync of the journal."""


def parser() -> argparse.ArgumentParser:
    """Every verb and option."""
    top = argparse.ArgumentParser(prog="lianzhen-edge", description="The Lianzhen edge box.")
    common_options(top, __version__, DEFAULT_FILE)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("run", help="run the box in the foreground")
    verbs.add_parser("check-config", help="say what is wrong with the configuration, if anything")
    claim = verbs.add_parser("claim", help="enrol a blank box with the claim that the hub printed")
    claim.add_argument("text", help="lianzhen:claim?...")
    verbs.add_parser("triage", help="run the model's process; the box starts it by itself")
    put = verbs.add_parser("put", help="store diagnostic records and see them go through")
    put.add_argument("text", help="what they say")
    put.add_argument("--stream", default="record.diagnostic")
    put.add_argument("--count", type=int, default=1)
    put.add_argument("--wait", action="store_true", help="ask again until the box has taken them")
    put.add_argument("--rate", type=int, default=0, help="records a second; 0: as fast as it goes")
    put.add_argument("--ids", action="store_true", help="print each id when it is stored")
    status = verbs.add_parser("status", help="what the box holds, and how the line is")
    status.add_argument("--json", action="store_true")
    status.add_argument(
        "--stalled", type=float, metavar="SECONDS",
        help="how long something may wait before somebody should look (exit status 3)",
    )  # fmt: skip
    owner_verbs.add_to(verbs, homes=False)
    item = verbs.add_parser("item", help="what became of one record")
    item.add_argument("id", help="32 hexadecimal digits")
    modalities = verbs.add_parser("modalities", help="who may send images, and who tried")
    modalities.add_argument("--json", action="store_true")
    change = modalities.add_mutually_exclusive_group()
    change.add_argument("--admit", metavar="TITLE@ADDRESS", help="let this one send images")
    change.add_argument("--remove", metavar="TITLE@ADDRESS", help="shut it out again")
    modalities.add_argument("--by", default="owner", help="in whose name")
    certificate = verbs.add_parser(
        "modality-certificate", help="let a modality come over TLS as this AE title"
    )
    certificate.add_argument("title", help="its AE title")
    certificate.add_argument("--out", type=Path, default=Path("modality"), help="folder for it")
    verbs.add_parser("scp", help="take images from modalities; the box starts this itself")
    audit = verbs.add_parser("audit", help="the box's audit log")
    audit.add_argument("action", choices=["verify"], help="is every row as it was written?")
    audit.add_argument("--json", action="store_true")
    return top


def run(arguments: Sequence[str] | None = None) -> int:
    """Do one verb; the exit status."""
    options = parser().parse_args(arguments)

    def verb() -> int:
        return _VERBS[options.verb](options, settings_of(options, DEFAULT_FILE, Settings))

    return in_one_sentence("lianzhen-edge", verb)


def _run(options: argparse.Namespace, settings: Settings) -> int:
    from lianzhen_runtime.child import own_command
    from lianzhen_runtime.program import run_program

    from . import app

    named = (("--config", options.config), ("--state", options.state))
    given = [part for name, value in named if value for part in (name, str(value))]
    command = own_command("lianzhen_edge", *given)
    return run_program("lianzhen-edge", lambda: app.run(settings, command))


def _scp(_options: argparse.Namespace, settings: Settings) -> int:
    from lianzhen_runtime.program import run_program

    from .dicom import scp

    return run_program("lianzhen-edge scp", lambda: scp.run(settings))


def _modality_certificate(options: argparse.Namespace, settings: Settings) -> int:
    from .dicom import secure

    print("\n".join(map(str, secure.issue(settings.folder, options.title, options.out))))
    return 0


def _check(_options: argparse.Namespace, settings: Settings) -> int:
    from lianzhen_runtime.rules import load_rules

    load_rules(settings.policies)
    print(f"the configuration is good; state in {settings.folder}")
    return 0


def _triage(_options: argparse.Namespace, settings: Settings) -> int:
    from lianzhen_runtime.program import run_program

    from .triage import process

    return run_program("lianzhen-edge triage", lambda: process.run(settings))


def _claim(options: argparse.Namespace, settings: Settings) -> int:
    from lianzhen_protocol import claims

    claims.parse(options.text)  # a typing error is best said before anything is asked
    _ask(settings, "POST", "/claim", body=options.text.encode())
    print("claimed; 'lianzhen-edge status' says when the box is enrolled")
    return 0


def _put(options: argparse.Namespace, settings: Settings) -> int:
    from lianzhen_protocol import kinds
    from lianzhen_protocol.records import DiagnosticNote

    body = DiagnosticNote(text=options.text)
    now_ms = time.time_ns() // 1_000_000
    ids = [new_id(now_ms) for _ in range(options.count)]
    entries = [kinds.encode(body, identity, now_ms) for identity in ids]
    _put_all(options, settings, list(zip(ids, entries, strict=True)))
    print(f"{len(entries)} stored in {options.stream}")
    return 0


def _put_all(
    options: argparse.Namespace, settings: Settings, entries: list[tuple[bytes, bytes]]
) -> None:
    """Batch by batch, each printed when it is stored.

    A batch that got no answer is asked again: its ids make it harmless.
    """
    from lianzhen_protocol.frame import MAX_PLAIN_BYTES

    size = min(BATCH, max(1, MAX_PLAIN_BYTES // (len(entries[0][1]) + 1))) if entries else 1
    if options.rate:
        size = min(size, max(1, options.rate // 10))
    for at in range(0, len(entries), size):
        batch = entries[at : at + size]
        began = time.monotonic()
        _put_batch(options, settings, [entry for _, entry in batch])
        if options.ids:
            print("\n".join(identity.hex() for identity, _ in batch), flush=True)
        if options.rate:
            time.sleep(max(0.0, began + len(batch) / options.rate - time.monotonic()))


def _put_batch(options: argparse.Namespace, settings: Settings, entries: list[bytes]) -> None:
    payload, params = msgspec.msgpack.encode(entries), {"stream": options.stream}
    attempt = 0
    while True:
        try:
            _ask(settings, "POST", "/records", params=params, body=payload)
        except (Unavailable, RefusedForNow):
            if not options.wait:
                raise
            time.sleep(pause(attempt, base=0.2, cap=2.0))
            attempt += 1
        else:
            return


def _status(options: argparse.Namespace, settings: Settings) -> int:
    """Status 3 if a person should look, so that a monitor needs nothing but this verb."""
    from . import status_text
    from .status import BoxStatus
    from .sync import STALLED_SECONDS, concerns

    found = msgspec.convert(_ask(settings, "GET", "/status"), BoxStatus)
    concerned = concerns(
        *(found.state, found.now_ms, found.certificate_ends_ms, found.links, found.lanes),
        found.storage.causes if found.storage else (),
        stalled_s=STALLED_SECONDS if options.stalled is None else options.stalled,
    )
    found = msgspec.structs.replace(found, concerns=concerned)
    print(pretty(found) if options.json else "\n".join(status_text.lines(found)))
    return LOOK if concerned else 0


def _accounts(options: argparse.Namespace, settings: Settings) -> int:
    print("\n".join(owner_verbs.lines(options, partial(_ask, settings))))
    return 0


def _item(options: argparse.Namespace, settings: Settings) -> int:
    found = _ask(settings, "GET", f"/items/{options.id}")
    seen = f", seen by {found['seen_by']}" if found["seen_by"] else ""
    rejected = f", rejected: {found['rejected']}" if found["rejected"] else ""
    print(f"{found['state']}{seen}{rejected}  ({found['stream']} {found['seq']})")
    return 0


def _modalities(options: argparse.Namespace, settings: Settings) -> int:
    if named := options.admit or options.remove:
        title, _, address = named.rpartition("@")
        wanted = {"title": title, "address": address, "by": options.by}
        body = wanted | {"remove": bool(options.remove)}
        _ask(settings, "POST", "/dicom/modalities", body=body)
    found = _ask(settings, "GET", "/dicom/modalities")
    if options.json:
        print(pretty(found))
        return 0
    for each in found:
        print(f"{each['state']:9} {each['title']}@{each['address']}  {each['images']} images")
    return 0


def _ask(settings: Settings, method: str, path: str, **more: Any) -> Any:
    return ask("lianzhen-edge", settings.folder / "control.sock", method, path, **more)


def _audit(options: argparse.Namespace, settings: Settings) -> int:
    from lianzhen_runtime.audit_report import report

    from . import auditing

    found = auditing.verify(settings.folder)
    lines, status = report([found])
    print(pretty(found) if options.json else "\n".join(lines))
    return status


_VERBS: dict[str, Callable[[argparse.Namespace, Settings], int]] = {
    "run": _run,
    "scp": _scp,
    "check-config": _check,
    "claim": _claim,
    "put": _put,
    "status": _status,
    "modalities": _modalities,
    "modality-certificate": _modality_certificate,
    "item": _item,
    "triage": _triage,
    "audit": _audit,
    "account": _accounts,
    "reset-password": _accounts,
}
