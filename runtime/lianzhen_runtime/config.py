"""One TOML file a program, decoded into a frozen Struct; unknown keys are refused."""

import os
import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from .errors import ConfigError


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table of a configuration file."""


Settings = TypeVar("Settings", bound=Section)


def load(path: Path | None, kind: type[Settings]) -> Settings:
    """The file as ``kind``; without a file, all defaults. ConfigError names key and remedy."""
    if path is None:
        return kind()
    try:
        text = path.read_text(encoding="utf-8")
        return msgspec.convert(tomllib.loads(text), kind)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error


def secret_from_environment(name: str) -> str | None:
    """A secret given as ``LIANZHEN_<name>``, taken out of the environment of later children."""
    return os.environ.pop(f"LIANZHEN_{name}", None)
