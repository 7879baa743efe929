"""The one reader of Vite's manifest: names of sources in, tags out."""

from pathlib import Path

import msgspec
from markupsafe import Markup

from lianzhen_runtime.errors import Unavailable

STATIC = Path(__file__).parent / "static"


class _Chunk(msgspec.Struct, frozen=True):
    file: str
    imports: list[str] = []


class Assets:
    """Built styles and islands, by the name of their source (``src/live.ts``).

    Unavailable if nobody has built them.
    """

    def __init__(self, static: Path = STATIC, prefix: str = "/static/") -> None:
        try:
            raw = (static / "manifest.json").read_bytes()
        except FileNotFoundError:
            raise Unavailable("the web islands are not built; run './do web' first") from None
        self._chunks = msgspec.json.decode(raw, type=dict[str, _Chunk])
        self._prefix = prefix

    def style(self, source: str) -> Markup:
        """A link to a style sheet."""
        return Markup('<link rel="stylesheet" href="{}">').format(self._url(source))

    def island(self, source: str) -> Markup:
        """The module, and a preload for each that it imports."""
        preload = Markup('<link rel="modulepreload" href="{}">')
        tags = [preload.format(self._url(name)) for name in self._imports(source)]
        tags.append(Markup('<script type="module" src="{}"></script>').format(self._url(source)))
        return Markup("\n").join(tags)

    def _url(self, source: str) -> str:
        return self._prefix + self._chunks[source].file

    def _imports(self, source: str) -> list[str]:
        found: dict[str, None] = {}
        waiting = list(self._chunks[source].imports)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found[name] = None
                waiting += self._chunks[name].imports
        return list(found)
