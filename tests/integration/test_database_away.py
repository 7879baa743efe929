"""A hub that is started while its PostgreSQL is not there: it waits, and says so."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from lab import HubProgram, Lab, LabError, Postgres, wait_until


@pytest.fixture
def absent(postgres: Postgres) -> Iterator[Postgres]:
    """A database whose server is stopped; it runs again afterwards."""
    postgres.empty()
    postgres.stop()
    yield postgres
    try:
        assert postgres.pid
    except LabError:
        postgres.start()


def health(hub: HubProgram) -> dict[str, Any]:
    """What a probe sees; empty while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{hub.status_port}/health") as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        with error:
            return dict(json.load(error))
    except OSError:
        return {}


def test_a_hub_waits_for_its_database_and_says_so(place: Lab, absent: Postgres) -> None:
    hub = place.hub(database=absent.url).start()
    wait_until("a hub that says what it lacks", lambda: health(hub).get("database") is False)
    assert health(hub)["ok"] is False
    assert "database: is away, will retry" in hub.tail(20)
    absent.start()
    hub.wait()
    wait_until("a healthy hub", lambda: health(hub).get("ok") is True)
    assert health(hub)["database"] is True
    assert "database: is there" in hub.tail(50)


def test_what_waiting_does_not_mend_is_said_at_once(place: Lab, postgres: Postgres) -> None:
    hub = place.hub("lost", database=postgres.url.replace("/lianzhen?", "/nowhere?"))
    done = subprocess.run(hub.command("run"), capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("lianzhen-hub: the database does not open")
    assert '"nowhere" does not exist' in last


def test_an_address_of_another_database_is_bad_configuration(place: Lab) -> None:
    hub = place.hub("foreign", database="mysql://somewhere/else")
    done = subprocess.run(hub.command("check-config"), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "only sqlite and postgresql" in done.stderr
