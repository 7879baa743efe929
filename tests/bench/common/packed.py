"""What packing makes of files: ``python tests/bench/common/packed.py FILE...``; the last line is
JSON. Give real slices: a smooth phantom proves nothing."""

import json
import sys
import time
from pathlib import Path

from lianzhen_runtime.packing import NotPacked, pack


def main(paths: list[str]) -> None:
    """Prints bytes packed for each byte of each file, and of all."""
    whole = packed = 0
    began = time.process_time()
    for path in paths:
        content = Path(path).read_bytes()
        try:
            size = len(pack(content))
        except NotPacked as why:
            print(f"{Path(path).name}: goes as it is, {why}")
            size = len(content)
        else:
            print(f"{Path(path).name}: {size / len(content):.3f}")
        whole, packed = whole + len(content), packed + size
    seconds = time.process_time() - began
    print(json.dumps({"files": len(paths), "bytes": whole, "ratio": round(packed / whole, 3),
                      "cpu_ms_a_file": round(1000 * seconds / len(paths), 1)}))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
