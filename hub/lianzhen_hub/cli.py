"""The hub's command line. Every verb but ``run`` and ``check-config`` asks a running hub."""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lianzhen_runtime.commandline import (
    ask,
    common_options,
    in_one_sentence,
    pretty,
    settings_of,
)
from lianzhen_runtime.errors import ConfigError, Unavailable
from lianzhen_runtime.files import read_secret, sole_user
from lianzhen_runtime.web import owner_verbs

from . import __version__
from .admin import token_verbs
from .settings import DEFAULT_FILE, Settings

if TYPE_CHECKING:
    from .fleet.authority import Authority
    from .fleet.rotation import Straggler

# What a verb needs beyond these is imported by it: on a small machine each library is felt.


def parser() -> argparse.ArgumentParser:
    """Every verb and option."""
    top = argparse.ArgumentParser(prog="lianzhen-hub", description="The Lianzhen hub.")
    common_options(top, __version__, DEFAULT_FILE)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("run", help="run the hub in the foreground")
    ingest = verbs.add_parser("ingest", help="one ingest shard; the hub starts its own")
    ingest.add_argument("--shard", type=int, required=True)
    verbs.add_parser("check-config", help="say what is wrong with the configuration, if anything")
    claim = verbs.add_parser("claim", help="print the claim of a new box, as text and QR code")
    claim.add_argument("box", help="the id printed on the box")
    claim.add_argument("--clinic", required=True)
    claim.add_argument("--days", type=int, default=14, help="how long it is good for")
    claim.add_argument("--text", action="store_true", help="the text alone, without the QR code")
    verbs.add_parser("nodes", help="every box: who, where, online or not")
    revoke = verbs.add_parser("revoke", help="take a box out of service, for good")
    revoke.add_argument("node")
    revoke.add_argument("--reason", required=True)
    for verb, help_ in (
        ("approve", "give a box whose certificate ran out a new one"),
        ("refuse", "do not"),
    ):
        decide = verbs.add_parser(verb, help=help_)
        decide.add_argument("node")
        decide.add_argument("--key", default="", help="which key, where several ask")
    adopt = verbs.add_parser("adopt", help="know a box again that was enrolled after the backup")
    adopt.add_argument("node", help="as the box's status says")
    adopt.add_argument("--box", required=True, help="the id printed on the box")
    adopt.add_argument("--clinic", required=True)
    log = verbs.add_parser("log", help="the newest records")
    log.add_argument("--node")
    log.add_argument("--stream")
    log.add_argument("--limit", type=int, default=20)
    opened = verbs.add_parser("open", help="show one record; its box learns who saw it")
    opened.add_argument("id")
    opened.add_argument("--by", required=True, help="your name, as the clinic will read it")
    verbs.add_parser("streams", help="every stream in numbers")
    held = verbs.add_parser("quarantine", help="records that could not be applied")
    held.add_argument("action", nargs="?", choices=["list", "show", "release", "dismiss"])
    held.add_argument("place", nargs="?", help="which one, as the list says")
    held.add_argument("--by", default="", help="your name")
    held.add_argument("--why", default="", help="why it is released or dismissed")
    held.add_argument("--body", type=Path, help="file of the body (JSON) to apply in its stead")
    backup = verbs.add_parser(
        "backup", help="make a backup, verify it, and call safe what it holds"
    )
    backup.add_argument("folder", type=Path, help="folder of all backups")
    verbs.add_parser("recovery-key", help="make and print the key that opens later backups")
    back = verbs.add_parser("restore", help="make a hub out of a backup; nothing may be running")
    back.add_argument("folder", type=Path, help="folder of all backups")
    back.add_argument("--at", help="the name of one of them; otherwise the newest")
    back.add_argument("--key", type=Path, required=True, help="file with the recovery key")
    ca = verbs.add_parser("ca", help="the hub's authority, and its change to another root")
    ca.add_argument("action", choices=["status", "rotate", "retire"])
    ca.add_argument("--anyway", action="store_true", help="leave boxes behind that have not moved")
    verbs.add_parser("notices", help="what an admin should know")
    verbs.add_parser("status", help="the state of every part")
    ledger = verbs.add_parser("ledger", help="the accounts; and do they sum to zero?")
    ledger.add_argument("action", nargs="?", choices=["export", "reverse"])
    ledger.add_argument("claim", nargs="?", help="the claim to reverse")
    ledger.add_argument("--reason", default="", help="why it is reversed")
    ledger.add_argument("--by", default="", help="your name")
    ledger.add_argument("--json", action="store_true")
    audit = verbs.add_parser("audit", help="is every audit log as it was written?")
    audit.add_argument("action", choices=["verify"])
    audit.add_argument("--node", help="a box's log alone, or 'hub'")
    audit.add_argument("--head", help="SEQ:HASH of the hub's log, as a box or a paper keeps it")
    audit.add_argument("--json", action="store_true")
    owner_verbs.add_to(verbs, homes=True)
    token_verbs.add_to(verbs)
    for verb in _LISTS:
        verbs.choices[verb].add_argument("--json", action="store_true")
    return top


def run(arguments: Sequence[str] | None = None) -> int:
    """Do one verb; the exit status."""
    options = parser().parse_args(arguments)
    return in_one_sentence(
        "lianzhen-hub", lambda: _do(options, settings_of(options, DEFAULT_FILE, Settings))
    )


def _do(options: argparse.Namespace, settings: Settings) -> int:
    match options.verb:
        case "run" | "ingest":
            return _run(options, settings)
        case "check-config":
            from lianzhen_runtime.rules import load_rules

            from .store.database import open_engine

            load_rules(settings.policies)
            open_engine(settings.database_url).dispose()
            print(f"the configuration is good; state in {settings.folder}")
        case "claim":
            _claim(options, settings)
        case "revoke":
            body = {"reason": options.reason}
            _ask(settings, "POST", f"/nodes/{options.node}/revoke", body=body)
            print(f"{options.node} is out of service: disconnected, and refused from now on")
        case "approve" | "refuse":
            path = f"/nodes/{options.node}/{options.verb}"
            _ask(settings, "POST", path, params={"key": options.key})
            print(f"{options.node}: {options.verb}d")
        case "adopt":
            body = {"box": options.box, "clinic": options.clinic}
            _ask(settings, "POST", f"/nodes/{options.node}/adopt", body=body)
            print(f"{options.node} is known again, as {options.box} of {options.clinic}")
        case "account" | "reset-password":
            print("\n".join(owner_verbs.lines(options, partial(_ask, settings))))
        case "token":
            print("\n".join(token_verbs.lines(options, partial(_ask, settings))))
        case "open":
            found = _ask(settings, "GET", f"/records/{options.id}", params={"by": options.by})
            print(pretty(found))
        case "ledger":
            return _ledger(options, settings)
        case "audit":
            return _audit(options, settings)
        case "ca":
            _authority(options, settings)
        case "backup" | "recovery-key" | "restore":
            _backup(options, settings)
        case "quarantine" if options.action not in {None, "list"}:
            _quarantine(options, settings)
        case _:
            _list(options, settings)
    return 0


def _run(options: argparse.Namespace, settings: Settings) -> int:
    from lianzhen_runtime.program import run_program

    if options.verb == "run":
        from . import app

        return run_program("lianzhen-hub", lambda: app.run(settings, _command(options)))
    from .ingest import shard

    if options.shard >= settings.shards:
        raise ConfigError(f"there is no shard {options.shard}: shards = {settings.shards}")
    return run_program("lianzhen-hub", lambda: shard.run(settings, options.shard))


def _command(options: argparse.Namespace) -> list[str]:
    """How this hub starts a process of its own with the same configuration."""
    from lianzhen_runtime.child import own_command

    named = (("--config", options.config), ("--state", options.state))
    given = [part for name, value in named if value for part in (name, str(value))]
    return own_command("lianzhen_hub", *given)


def _claim(options: argparse.Namespace, settings: Settings) -> None:
    wanted = {"box": options.box, "clinic": options.clinic, "days": options.days}
    text = _ask(settings, "POST", "/claims", body=wanted)["text"]
    if not options.text:
        import segno

        segno.make(text, error="m").terminal(out=sys.stdout, compact=True)
    print(text)


def _ledger(options: argparse.Namespace, settings: Settings) -> int:
    if options.action == "export":
        print("\n".join(_ask(settings, "GET", "/ledger/export")))
        return 0
    if options.action == "reverse":
        said = {"reason": options.reason, "by": options.by}
        found = _ask(settings, "POST", f"/ledger/{options.claim}/reverse", body=said)
        print(pretty(found) if options.json else f"{found['claim']} is {found['state']}")
        return 0
    found = _ask(settings, "GET", "/ledger")
    if options.json:
        print(pretty(found))
    else:
        from .settlement.export import yuan

        for row in found["accounts"]:
            held = row["pending_debit_fen"] - row["pending_credit_fen"]
            waits = f"  ({yuan(held)} pending)" if held else ""
            print(f"{row['id']:40} {row['nature']:10} {yuan(row['fen']):>14}{waits}")
        print(f"{found['claims']} claims, {found['transfers']} transfers, "
              f"sum {yuan(found['sum_fen'])}")  # fmt: skip
        if not found["sound"]:
            print(f"BROKEN: {', '.join(found['wrong']) or 'the sum is not zero'}")
    return 0 if found["sound"] else 1


def _backup(options: argparse.Namespace, settings: Settings) -> None:
    if options.verb == "recovery-key":
        print(_ask(settings, "POST", "/recovery-key")["key"])
    elif options.verb == "backup":
        wanted = {"folder": str(options.folder.absolute())}
        made = _ask(settings, "POST", "/backup", body=wanted, seconds=None)
        print(f"{made['path']}: {made['records']} records, {made['image_files']} images, verified")
    else:
        from .backup import recovery, restoring

        chosen = restoring.choose(options.folder, options.at)
        key = recovery.private_key(read_secret(options.key).decode(errors="replace"))
        made = restoring.restore(chosen, settings.folder, settings.database_url, key)
        when, records = _when(made.manifest.made_ms), made.manifest.records
        print(f"{made.path}: {records} records are back, as of {when}")
        print("start the hub: the boxes bring what came later")
        print("what an admin did since then is to be done again: revocations first of all")


def _authority(options: argparse.Namespace, settings: Settings) -> None:
    """On the files themselves: the hub is stopped for a change, and takes it up at its start."""
    from .fleet import rotation
    from .fleet.authority import Authority, common_name

    folder = settings.folder / "ca"
    if not folder.exists():
        raise Unavailable(f"there is no hub in {settings.folder}: name its folder with --state")
    authority = Authority(folder)
    left = _stragglers(settings, authority)
    if options.action == "status":
        print(f"{common_name(authority.root)}  serves, pin {authority.spki_pin.hex()}")
        if authority.following is not None:
            print(f"{common_name(authority.following)}  follows, and issues certificates of boxes")
            for each in left:
                print(f"not yet moved: {each.node}  {each.box}  {each.clinic}")
            if not left:
                print("every box has moved: stop the hub and run 'lianzhen-hub ca retire'")
        return
    with sole_user(settings.folder):
        if options.action == "rotate":
            rotation.begin(authority)
            print("a new root is made; start the hub: boxes move to it as they come online")
        else:
            rotation.finish(folder, authority, left, anyway=options.anyway)
            print("the old root is retired and its key is gone; start the hub, print claims anew")


def _stragglers(settings: Settings, authority: "Authority") -> "list[Straggler]":
    from sqlalchemy.exc import OperationalError

    from .fleet import rotation
    from .store.database import Database

    database = Database(settings.database_url)
    try:
        with database.engine.connect().execution_options(reader=True) as db:
            return rotation.stragglers(db, authority)
    except OperationalError as error:
        raise Unavailable("the database does not open; is it running?") from error
    finally:
        database.engine.dispose()


def _quarantine(options: argparse.Namespace, settings: Settings) -> None:
    if not options.place or not options.by:
        raise ConfigError(f"quarantine {options.action} needs a place (see the list) and --by NAME")
    path = f"/quarantine/{options.place}"
    if options.action == "show":
        print(pretty(_ask(settings, "GET", path, params={"by": options.by})))
        return
    said = {"by": options.by, "why": options.why}
    if options.body is not None:
        try:
            said["body"] = options.body.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{options.body} cannot be read: {error}") from error
    _ask(settings, "POST", f"{path}/{options.action}", body=said)
    print(f"{options.place} is {options.action}{'d' if options.action == 'release' else 'ed'}")


def _audit(options: argparse.Namespace, settings: Settings) -> int:
    from lianzhen_runtime.audit_report import head_of, report

    from .audit import check

    heads = [head_of(options.head)] if options.head else []
    found = check.verify(settings, options.node, heads)
    lines, status = report(found)
    print(pretty(found) if options.json else "\n".join(lines))
    return status


def _list(options: argparse.Namespace, settings: Settings) -> None:
    params = {
        name: str(value)
        for name in ("node", "stream", "limit")
        if (value := getattr(options, name, None)) is not None
    }
    found = _ask(settings, "GET", f"/{options.verb}", params=params)
    line = _LISTS[options.verb]
    if options.json or line is None:
        print(pretty(found))
        return
    for row in found:
        print(line(row))


def _when(ms: int | None) -> str:
    if ms is None:
        return "never"
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(" ", "seconds")


def _node_line(row: dict[str, Any]) -> str:
    waits = "  WAITS FOR APPROVAL" if row["waiting_for_approval"] else ""
    if row["waiting"]:
        from lianzhen_runtime.web.look import size

        waits = f"  {row['waiting']} wait there, {size(row['waiting_bytes'])}{waits}"
    waits += "".join(f"  {code.upper()}" for code in row["concerns"])
    online = "+".join(row["online"]) or "offline"
    last = _when(row["last_received_ms"])
    return (
        f"{row['node']}  {row['status']:8} {online:12} {row['box']}  {row['clinic']}  {last}{waits}"
    )


def _log_line(row: dict[str, Any]) -> str:
    return (
        f"{_when(row['received_ms'])}  {row['id']}  {row['node']}  "
        f"{row['stream']} {row['seq']}  {row['kind']}"
    )


def _stream_line(row: dict[str, Any]) -> str:
    return (
        f"{row['node']}  {row['epoch'][:8]}  {row['stream']:32} {row['committed']} committed, "
        f"{row['logged']} logged, {row['applied']} applied, {row['held']} in quarantine"
    )


def _held_line(row: dict[str, Any]) -> str:
    return (
        f"{row['place']}  {_when(row['at_ms'])}  {row['node']}  {row['stream']} {row['seq']}  "
        f"{row['kind'] or '-'}  {row['code']}: {row['reason']}"
    )


def _notice_line(row: dict[str, Any]) -> str:
    return f"{_when(row['at_ms'])}  {row['node'] or '-'}  {row['code']}: {row['detail']}"


_LISTS: dict[str, Callable[[dict[str, Any]], str] | None] = {
    "nodes": _node_line,
    "log": _log_line,
    "streams": _stream_line,
    "quarantine": _held_line,
    "notices": _notice_line,
    "status": None,
}


def _ask(settings: Settings, method: str, path: str, **more: Any) -> Any:
    return ask("lianzhen-hub", settings.folder / "admin.sock", method, path, **more)
