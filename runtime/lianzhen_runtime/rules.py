"""The rules of settlement as files: those that ship, and those of a folder that the owner names."""

from importlib import resources
from pathlib import Path

from lianzhen_protocol import fees
from lianzhen_protocol.errors import SettlementError
from lianzhen_protocol.fees import Rules

from .errors import ConfigError


def load_rules(folder: str | None) -> Rules:
    """All ``*.toml`` of the package and of ``folder``. ConfigError says which file, and why."""
    shipped = resources.files("lianzhen_protocol") / "policies"
    files = [
        (each.name, each.read_bytes())
        for each in sorted(shipped.iterdir(), key=lambda each: each.name)
        if each.name.endswith(".toml")
    ]
    try:
        if folder is not None:
            files += [
                (str(path), path.read_bytes()) for path in sorted(Path(folder).glob("*.toml"))
            ]
        return fees.read_rules(files)
    except OSError as error:
        raise ConfigError(f"policies: {error}") from error
    except SettlementError as error:
        raise ConfigError(f"policies: {error}") from error
