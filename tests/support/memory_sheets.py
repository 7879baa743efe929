"""Sheets in a dictionary, for tests of what works against the protocol alone."""

from lianzhen_protocol.sheets import S, Sheet


class MemorySheets:
    """``Sheets`` as the journal and the hub keep them, without sealing."""

    def __init__(self) -> None:
        self._sheets: dict[tuple[str, str], Sheet] = {}

    def get(self, kind: type[S], key: str) -> S | None:
        found = self._sheets.get((kind.SHEET, key))
        assert found is None or isinstance(found, kind)
        return found

    def put(self, sheet: Sheet) -> None:
        self._sheets[sheet.SHEET, sheet.index().key] = sheet

    def delete(self, kind: type[Sheet], key: str) -> None:
        self._sheets.pop((kind.SHEET, key), None)

    def find(
        self,
        kind: type[S],
        *,
        owner: str | None = None,
        state: str | None = None,
        since_ms: int | None = None,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[S]:
        found = [
            sheet
            for sheet in self._sheets.values()
            if isinstance(sheet, kind)
            and owner in (None, sheet.index().owner)
            and state in (None, sheet.index().state)
            and (since_ms is None or sheet.index().at_ms >= since_ms)
        ]
        found.sort(key=lambda sheet: sheet.index().at_ms, reverse=newest)
        return found[:limit]

    def find_token(self, kind: type[S], purpose: str, value: str) -> list[S]:
        return [each for each in self.find(kind) if (purpose, value) in each.tokens()]
