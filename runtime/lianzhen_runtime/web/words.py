"""Every word of the consoles, in both languages: ``<area>.json``, key by key the same."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from lianzhen_runtime.errors import ConfigError

LANGUAGES: Final = ("zh-CN", "en")
DEFAULT: Final = "zh-CN"
_Catalogue = dict[str, dict[str, str]]


class Words:
    """Catalogues of several folders; a key is ``area.key``. ConfigError if a language lacks one."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._words: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
        for folder in folders:
            for path in sorted(folder.glob("*.json")):
                self._add(path)

    def _add(self, path: Path) -> None:
        found = msgspec.json.decode(path.read_bytes(), type=_Catalogue)
        if set(found) != set(LANGUAGES):
            raise ConfigError(f"{path.name} speaks {sorted(found)}, not {sorted(LANGUAGES)}")
        first, second = (set(found[language]) for language in LANGUAGES)
        if first != second:
            raise ConfigError(f"{path.name}: only one language has {sorted(first ^ second)}")
        for language, words in found.items():
            ours = self._words[language]
            ours |= {f"{path.stem}.{key}": text for key, text in words.items()}

    def say(self, language: str, key: str, **values: object) -> str:
        """One sentence; KeyError for a key that there is not."""
        text = self._words[language][key]
        return text.format(**values) if values else text

    def area(self, language: str, area: str) -> dict[str, str]:
        """An area's words without its name, for an island."""
        start = f"{area}."
        found = self._words[language].items()
        return {key.removeprefix(start): text for key, text in found if key.startswith(start)}

    def knows(self, key: str) -> bool:
        """Whether there is such a key."""
        return key in self._words[DEFAULT]
