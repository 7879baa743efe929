"""A wrong configuration is one sentence that names the key."""

import os
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from lianzhen_runtime.config import Section, load, secret_from_environment
from lianzhen_runtime.errors import ConfigError


class Broker(Section, frozen=True):
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8883


class Settings(Section, frozen=True):
    names: tuple[str, ...] = ()
    broker: Broker = Broker()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub.toml"


def test_without_a_file_all_is_as_delivered() -> None:
    assert load(None, Settings) == Settings()


def test_what_is_written_counts_and_the_rest_is_as_delivered(path: Path) -> None:
    path.write_text('names = ["联诊.example"]\n[broker]\nport = 1883\n')
    assert load(path, Settings) == Settings(names=("联诊.example",), broker=Broker(port=1883))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"colour = 3", r"unknown field `colour`"),
        (b"[broker]\nprot = 3", r"unknown field `prot` - at `\$\.broker`"),
        (b"names = 3", r"Expected `array`, got `int` - at `\$\.names`"),
        (b"[broker]\nport = 70000", r"<= 65535 - at `\$\.broker\.port`"),
        (b'[broker]\nport = "1883"', r"Expected `int`, got `str` - at `\$\.broker\.port`"),
        (b"names = ]", r"is not TOML: .*line 1"),
        (b"names = 1\nnames = 2", r"is not TOML: "),
        (b"\xff\xfe", r"is not TOML: "),
    ],
    ids=["unknown", "nested", "type", "range", "text", "not-toml", "twice", "not-utf8"],
)
def test_what_is_wrong_is_said_with_file_and_key(path: Path, content: bytes, sentence: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence) as caught:
        load(path, Settings)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert (caught.value.code, caught.value.exit_status) == ("config-invalid", 2)


def test_a_file_that_is_missing_was_named_by_mistake(path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{path}: No such file or directory"):
        load(path, Settings)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, Settings)


def test_a_secret_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIANZHEN_DATABASE", "postgresql://secret")
    assert secret_from_environment("DATABASE") == "postgresql://secret"
    assert "LIANZHEN_DATABASE" not in os.environ
    assert secret_from_environment("DATABASE") is None
