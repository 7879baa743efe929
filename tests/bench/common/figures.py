"""docs/figures.md from the last lines of the benches, kept in docs/figures/NAME.json.

``./do bench NAME | tail -n 1 > docs/figures/NAME.json``, then run this file.
"""

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[3] / "docs"
HEAD = """# Figures

Made by `python tests/bench/common/figures.py` from `docs/figures/NAME.json`, each the last line
of `./do bench NAME`. A ratio over 1 means that we are ahead of that peer. What was not measured
stands below each table. CPU and wire are for one record; "others" is what else the machine did,
in cores.
"""

TABLE = """\
| | records/s | range | CPU µs | wire B | put p50/p99 ms | commit p50/p99 ms | others |
|--|--|--|--|--|--|--|--|"""


def main() -> None:
    """Write the page."""
    found = (path.read_text(encoding="utf-8") for path in sorted((DOCS / "figures").glob("*.json")))
    benches = [json.loads(text) for text in found]
    page = "\n".join([HEAD, *(_plain(b) if "table" in b else _bench(b) for b in benches)])
    (DOCS / "figures.md").write_text(page, encoding="utf-8")


def _bench(found: dict[str, Any]) -> str:
    rows = {f"**ours, {name}**": row for name, row in found["ours"].items()} | found["peers"]
    lines = [
        f"## {found['bench']}",
        "",
        f"`./do bench {found['bench']}` on {found['machine']}.",
        "",
        TABLE,
        *(_row(name, row) for name, row in rows.items()),
        "",
        *_tail(found),
    ]
    return "\n".join(lines)


def _tail(found: dict[str, Any]) -> list[str]:
    """Ratios, what the peers promise, and what is missing."""
    ratios = [f"| {name} | {value} |" for name, value in found["ratios"].items()]
    return [
        *(["| ratio to | |", "|--|--|", *ratios, ""] if ratios else []),
        *(f"- {name}: {row['promise']}" for name, row in found["peers"].items()
          if "promise" in row),
        "- Not measured: " + "; ".join(found["not_measured"]) + ".",
        "",
    ]  # fmt: skip


def _plain(found: dict[str, Any]) -> str:
    """Of a bench that made its table itself: rows of text, the first of them titles."""
    titles, *rows = found["table"]
    lines = [
        f"## {found['bench']}",
        "",
        f"`./do bench {found['bench']}` on {found['machine']}. {found['what']}.",
        "",
        f"| {' | '.join(titles)} |",
        "|--" * len(titles) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *_tail(found),
    ]
    return "\n".join(lines)


def _row(name: str, row: dict[str, Any]) -> str:
    cpu = ", ".join(f"{part} {value:.0f}" for part, value in row["cpu_us_per_record"].items())
    low, high = row["records_per_s_range"]
    wire = row.get("wire_bytes_per_record", "–")
    cells = (
        *(name, f"{row['records_per_s']:.0f}", f"{low:.0f}–{high:.0f}", cpu, str(wire)),
        *(_quantiles(row.get(what)) for what in ("put_ms", "commit_ms")),
        str(row["other_load_cores"]),
    )
    return f"| {' | '.join(cells)} |"


def _quantiles(found: dict[str, float] | None) -> str:
    return f"{found['p50']:.1f} / {found['p99']:.1f}" if found else "–"


if __name__ == "__main__":
    main()
