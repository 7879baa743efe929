"""Names out of raw bytes, as devices in Chinese clinics send them; dcmtk's reading beside ours."""

import re
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from lianzhen_protocol.dicomtext import decode
from support.modality import DCMTK, part10

NAME = "王^伟"
GB = "gb18030"
DECLARED, UTF_8, UNREADABLE = "declared", "utf-8", "unreadable"


class Case(NamedTuple):
    """A name as sent, and how it is to be read. ``dcmtk``: its reading is right too."""

    raw: bytes
    charset: bytes
    text: str
    source: str
    dcmtk: bool = False


TABLE = [
    Case(b"Wang^Wei ", b"", "Wang^Wei", DECLARED, True),
    Case(NAME.encode(), b"ISO_IR 192", NAME, DECLARED, True),
    Case(NAME.encode(GB), b"GB18030 ", NAME, DECLARED, True),
    Case(NAME.encode(GB), b"GBK", NAME, DECLARED, True),
    # four bytes of GB18030 under the name of GBK, and a surname that only it has
    Case("𠮷^伟".encode(GB), b"GBK", "𠮷^伟", DECLARED),
    Case("䶮^伟".encode(GB), b"GB18030", "䶮^伟", DECLARED, True),
    # a trail byte that is a backslash (誠), or a caret (刕)
    Case("王^刕".encode(GB), b"GB18030", "王^刕", DECLARED, True),
    Case("誠^誠".encode(GB), b"GB18030", "誠^誠", DECLARED, True),
    Case("誠^誠".encode(GB), b"", "誠^誠", GB),
    # ISO 2022 IR 58 with its escapes (PS3.5, K.2), with romaji before, twice, and never repeated
    Case(
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        b"\\ISO 2022 IR 58", "Zhang^XiaoDong=张^小东=", DECLARED, True,
    ),
    Case(b"\x1b$)A\xcd\xf5^\xce\xb0", b"\\ISO 2022 IR 58", NAME, DECLARED),
    Case(
        b"\x1b$)A\xcd\xf5^\x1b$)A\xce\xb0",
        b"ISO 2022 IR 6\\ISO 2022 IR 58", NAME, DECLARED, True,
    ),
    Case(b"\xcd\xf5^\xce\xb0", b"ISO 2022 IR 58", NAME, DECLARED),
    Case(b"\xcd\xf5^\xce\xb0", b"\\ISO 2022 IR 58", NAME, GB),
    # hanzi of GBK behind the escape of GB 2312
    Case(b"\x1b$)A\xcd\xf5^\x1b$)A" + "喆".encode("gbk"), b"\\ISO 2022 IR 58", "王^喆", GB),
    # nothing declared
    Case(NAME.encode(), b"", NAME, UTF_8),
    Case(NAME.encode(GB), b"", NAME, GB),
    Case("毛^平".encode(GB), b"", "毛^平", GB),  # valid as UTF-8: ë^ƽ
    Case("Müller^Ö".encode(), b"", "Müller^Ö", UTF_8),
    # the wrong set declared
    Case(NAME.encode(GB), b"ISO_IR 192", NAME, GB),
    Case(NAME.encode(), b"GB18030", NAME, UTF_8),
    Case("王^喆".encode(), b"GBK", "王^喆", UTF_8),
    Case(NAME.encode(GB), b"ISO_IR 100", NAME, GB),
    Case(NAME.encode(), b"ISO_IR 100", NAME, UTF_8),
    Case("毛^平".encode(GB), b"ISO_IR 100", "毛^平", GB),
    Case("黄^镕基".encode(GB), b"NOT A SET", "黄^镕基", GB),
    # other people's sets stay what they are
    Case("Müller".encode("latin-1"), b"ISO_IR 100", "Müller", DECLARED, True),
    Case("Иванов".encode("iso8859-5"), b"ISO_IR 144", "Иванов", DECLARED, True),
    Case(
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        b"\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう", DECLARED,
    ),
    Case(
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
        b"\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞", DECLARED, True,
    ),
    # what nobody can read, and what no text is
    Case(b"\xff\xff\xff", b"", "\ufffd\ufffd\ufffd", UNREADABLE),
    Case(b"A\x00B\x1bC\r\n", b"", "ABC", DECLARED),
    Case(b"", b"", "", DECLARED),
]  # fmt: skip


@pytest.mark.parametrize("case", TABLE, ids=range(len(TABLE)))
def test_the_ladder(case: Case) -> None:
    assert decode(case.raw, case.charset) == (case.text, case.source)


def _file(case: Case) -> bytes:
    def element(tag: int, vr: bytes, value: bytes) -> bytes:
        value += b" " * (len(value) % 2)
        return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value

    content = element(0x00080005, b"CS", case.charset) + element(0x00100010, b"PN", case.raw)
    return part10("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1", content)


def test_dcmtk_reads_the_same_where_it_is_right(tmp_path: Path) -> None:
    cases = [case for case in TABLE if case.dcmtk]
    assert len(cases) >= 12
    for number, case in enumerate(cases):
        (tmp_path / f"{number:02d}.dcm").write_bytes(_file(case))
    found = subprocess.run(
        [DCMTK / "dcmdump", "+U8", "+L", "+P", "0010,0010", *sorted(tmp_path.iterdir())],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.findall(r"PN \[(.*?) *\]", found.stdout) == [case.text for case in cases]


def test_a_trail_byte_that_looks_like_a_delimiter_splits_nothing() -> None:
    tricky = [
        character
        for character in (chr(point) for point in range(0x4E00, 0x9FA6))
        if (raw := character.encode("gbk", "ignore")) and raw[-1:] in b"\\^"
    ]
    assert len(tricky) > 200
    for character in tricky:
        name = f"{character}^{character}"
        for charset in (b"", b"GBK", b"GB18030", b"ISO_IR 100", b"ISO_IR 192"):
            assert decode(name.encode(GB), charset).text == name


def test_every_pair_of_common_hanzi_is_read_whatever_is_declared() -> None:
    """GB 2312's first level; a surname of one in GBK is never taken for a letter of UTF-8."""
    common = [bytes((row, cell)) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF)]
    common = common[:-5]  # the last row is not full
    for first, second in zip(common, reversed(common), strict=True):
        raw = first + b"^" + second
        for charset in (b"", b"ISO_IR 100", b"GBK", b"\\ISO 2022 IR 58"):
            assert decode(raw, charset).text == raw.decode("gb2312")
