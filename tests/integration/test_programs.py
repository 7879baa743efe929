"""Both programs as an operator meets them: wrong configuration, taken ports, logs, files."""

import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import BoxProgram, HubProgram, Lab, Program, wait_until
from lianzhen_protocol import claims
from support.lab_fixtures import (
    AS_ROOT,
    STREAM,
    HubLedger,
    Pair,
    note,
    notes,
    put_all,
    settled,
)

SECRET_TEXT = "the-patient-has-a-secret"


def run(program: Program, *verb: str, seconds: float = 120) -> tuple[int, str]:
    """A verb's exit status and the one sentence on its standard error."""
    done = subprocess.run(
        program.command(*verb), capture_output=True, text=True, check=False, timeout=seconds
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(said) <= 1, f"more than one sentence: {said}"
    assert "Traceback" not in done.stderr
    return done.returncode, said[0] if said else ""


@pytest.fixture(params=[HubProgram, BoxProgram], ids=["hub", "box"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Program:
    kind = request.param
    made: Program = kind(tmp_path / "p") if kind is HubProgram else kind(tmp_path / "p", "BOX-1")
    return made


# -- configuration


def test_a_good_configuration_is_called_good(program: Program) -> None:
    assert program.ask("check-config") == f"the configuration is good; state in {program.state}"


WRONG = {
    "an unknown key": ("stat_port = 1", "contains unknown field `stat_port`"),
    "a word for a number": ('status_port = "no"', "Expected `int`, got `str` - at `$.status_port`"),
    "a port that is none": ("status_port = 70000", "`int` <= 65535 - at `$.status_port`"),
    "a level that is none": ('log_level = "loud"', "Invalid enum value 'loud' - at `$.log_level`"),
    "half a pair": ('console_key = "x"', "console_certificate and console_key belong together"),
    "no TOML": ("status_port 1", "is not TOML"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("verb", ["check-config", "run"])
def test_a_wrong_configuration_is_said_in_one_sentence(
    program: Program, case: str, verb: str
) -> None:
    line, complaint = WRONG[case]
    program.config.write_text(f"{line}\n")
    status, said = run(program, verb)
    assert status == 2
    assert said.startswith(f"{program.name}: {program.config}")
    assert complaint in said


def test_a_configuration_that_is_not_there(program: Program) -> None:
    program.config.unlink()
    status, said = run(program, "check-config")
    assert (status, said) == (2, f"{program.name}: {program.config}: No such file or directory")


def test_nobody_answers(program: Program) -> None:
    status, said = run(program, "status")
    assert status == 1
    assert said.endswith(f"is '{program.name} run' running?")


def test_a_taken_status_port(program: Program) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = program.config.read_text().splitlines()
        text = [line for line in text if not line.startswith("status_port")]
        program.config.write_text("\n".join([*text, f"status_port = {port}"]))
        status, said = run(program, "run")
    assert status == 1
    assert f"127.0.0.1:{port} cannot be served: " in said
    assert "is another one running?" in said


@pytest.mark.parametrize("key", ["https_port", "mqtt_port"])
def test_a_taken_port_of_the_hub(tmp_path: Path, key: str) -> None:
    hub = HubProgram(tmp_path / "hub")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", getattr(hub, key)))
        taken.listen()
        status, said = run(hub, "run")
    assert status == 1
    assert str(getattr(hub, key)) in said


def test_a_second_program_in_the_same_folder(sqlite_pair: Pair) -> None:
    for running in (sqlite_pair.hub, sqlite_pair.box):
        status, said = run(running, "run")
        assert status == 1
        assert "another" in said
    assert put_all(sqlite_pair.box, [note()], "record.second")
    settled(sqlite_pair.box, sqlite_pair.ledger, 1, "record.second")


@pytest.mark.parametrize("url", ["mysql://x/y", "no url at all"])
def test_a_database_that_does_not_open(tmp_path: Path, url: str) -> None:
    hub = HubProgram(tmp_path / "hub", url)
    status, said = run(hub, "run")
    assert status in {1, 2}
    assert "database" in said


def test_a_claim_with_a_typing_error(sqlite_pair: Pair) -> None:
    status, said = run(sqlite_pair.box, "claim", "lianzhen:claim?hub=x")
    assert status == 2
    assert said.startswith("lianzhen-edge: ")


def test_an_enrolled_box_takes_no_second_claim(sqlite_pair: Pair) -> None:
    claim = sqlite_pair.hub.ask("claim", "BOX-9", "--clinic", "Elsewhere", "--text")
    status, said = run(sqlite_pair.box, "claim", claim)
    expected = f"lianzhen-edge: this box is enrolled already, as {sqlite_pair.node}"
    assert (status, said) == (1, expected)


@pytest.mark.parametrize("verb", [("put", "x"), ("item", "0" * 32), ("item", "zz")])
def test_a_blank_box_says_what_it_lacks(blank: BoxProgram, verb: tuple[str, ...]) -> None:
    status, said = run(blank, *verb)
    assert status == 1
    assert "enrolled" in said or "hexadecimal" in said


def test_a_blank_box_says_what_to_do(blank: BoxProgram) -> None:
    done = subprocess.run(
        blank.command("status"), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.startswith("unclaimed  node -")
    assert "claim it with 'lianzhen-edge claim'" in done.stdout
    assert "LOOK: not enrolled" in done.stdout
    assert done.returncode == 3


@pytest.fixture(scope="module")
def blank(place: Lab) -> Iterator[BoxProgram]:
    box = place.box("BLANK").start().wait()
    yield box
    box.kill()


# -- what lies on the disk, and what is said


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def reachable(root: Path) -> Iterator[Path]:
    """Files that somebody else than their owner can come to and read or write."""
    for path in root.iterdir():
        if path.is_dir() and mode(path) & 0o011:
            yield from reachable(path)
        elif path.is_file() and mode(path) & 0o066:
            yield path


def test_nothing_but_its_owner_reads_a_secret(sqlite_pair: Pair) -> None:
    """The broker runs as a user of its own, so its folder is its group's, and only that one."""
    put_all(sqlite_pair.box, [note()])
    hub, box = sqlite_pair.hub.state, sqlite_pair.box.state
    assert mode(box) == 0o700
    exposed = {path.relative_to(hub).parts[0] for path in reachable(hub)}
    assert exposed <= ({"broker"} if AS_ROOT else set())
    private = [*box.glob("identity/*/key.pem"), *box.glob("keys/*"), box / "control.sock"]
    private += [*hub.glob("keys/*"), hub / "admin.sock"]
    private += [path for path in hub.glob("ca/**/*") if path.is_file()]
    assert {oct(mode(path)) for path in private} == {"0o600"}
    assert [oct(mode(folder)) for folder in (hub / "ca", hub / "keys")] == ["0o700"] * 2


def test_a_key_that_others_may_read_is_not_used(sqlite_pair: Pair) -> None:
    box = sqlite_pair.box
    box.stop()
    (key,) = (box.state / "keys").glob("kek.*")
    key.chmod(0o644)
    status, said = run(box, "run")
    assert status == 2
    assert said == f"lianzhen-edge: {key} can be read by others; run: chmod 600 {key}"
    key.chmod(0o600)
    box.start().wait()
    wait_until("a box that is online again", box.online)


def test_neither_log_nor_disk_tells_what_a_record_says(place: Lab) -> None:
    """A lost card, a backup in the wrong hands and a support bundle: none of them talks."""
    hub = place.hub("quiet-hub").start().wait()
    box = place.box("QUIET").start().wait()
    text = hub.ask("claim", "QUIET", "--clinic", "Township", "--text")
    box.ask("claim", text)
    wait_until("a box that is online", box.online)
    ledger = HubLedger(hub)
    promised = put_all(box, notes(300, SECRET_TEXT))
    settled(box, ledger, 300)
    hub.kill()  # what waits offline is on the card the longest
    promised += put_all(box, notes(50, SECRET_TEXT))
    hub.start().wait()
    settled(box, ledger, 350)
    ledger.check(promised)
    ledger.close()
    hub.ask("open", promised[0].hex(), "--by", "Dr Wang")
    box.stop()
    hub.stop()
    code = claims.parse(text).code
    words = [SECRET_TEXT.encode(), claims.code_text(code).encode(), code, code.hex().encode()]
    words.append(claims.code_text(code).replace("-", "").lower().encode())
    keys = [*box.state.glob("keys/*"), *hub.state.glob("keys/*")]
    words += [key.read_bytes() for key in keys]
    for program in (hub, box):
        everything = [program.log, *(path for path in program.state.rglob("*") if path.is_file())]
        for path in everything:
            if path in keys:
                continue
            content = path.read_bytes()
            for word in words:
                assert word not in content, f"{path} tells a secret"
    for program in (hub, box):
        assert b"PRIVATE KEY" not in program.log.read_bytes()
        assert b"Dr Wang" not in program.log.read_bytes()


def test_a_journal_of_another_box_is_not_opened(place: Lab, sqlite_pair: Pair) -> None:
    """Two cards mixed up on the bench: the records of one clinic must not go out as another's."""
    other = place.box("OTHER").start()
    other.enrol(sqlite_pair.hub)
    put_all(other, [note()], STREAM)
    other.stop()
    mine = sqlite_pair.box
    mine.stop()
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (other.state / name).unlink(missing_ok=True)
        if (mine.state / name).exists():
            shutil.copy(mine.state / name, other.state / name)
    status, said = run(other, "run")
    assert status == 1
    assert f"this journal belongs to {sqlite_pair.node}" in said
    mine.start().wait()
    wait_until("a box that is online again", mine.online)


@pytest.mark.skipif(not AS_ROOT, reason="only root can become somebody else")
def test_both_programs_run_for_a_plain_user(place: Lab) -> None:
    """Developers are not root; the broker then runs as they do."""
    folder = place.folder / "plain"
    folder.mkdir()
    place.folder.chmod(0o755)
    folder.chmod(0o777)
    hub, box = HubProgram(folder / "hub"), BoxProgram(folder / "box", "BOX-7")
    for program in (hub, box):
        shutil.chown(program.folder, "nobody", "nogroup")
        program.prefix = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
    try:
        hub.start().wait()
        box.start().enrol(hub)
        ledger = HubLedger(hub)
        promised = put_all(box, notes(10))
        settled(box, ledger, 10)
        ledger.check(promised)
        ledger.close()
    finally:
        box.kill()
        hub.kill()
