"""Names out of raw bytes, as devices in Chinese clinics send them."""

import pytest

from lianzhen_edge.dicom.text import decode

NAME = "王^伟"


@pytest.mark.parametrize(
    ("raw", "charset", "text", "source"),
    [
        (b"Wang^Wei ", b"", "Wang^Wei", "declared"),
        (NAME.encode(), b"ISO_IR 192", NAME, "declared"),
        (NAME.encode("gb18030"), b"GB18030 ", NAME, "declared"),
        (NAME.encode("gb18030"), b"GBK", NAME, "declared"),
        ("𠮷^伟".encode("gb18030"), b"GBK", "𠮷^伟", "declared"),
        (NAME.encode(), b"", NAME, "utf-8"),
        (NAME.encode("gb18030"), b"", NAME, "gb18030"),
        (NAME.encode("gb18030"), b"ISO_IR 192", NAME, "gb18030"),
        (NAME.encode("gb18030"), b"ISO_IR 100", NAME, "gb18030"),
        (NAME.encode(), b"ISO_IR 100", NAME, "utf-8"),
        ("黄^镕基".encode("gb18030"), b"NOT A SET", "黄^镕基", "gb18030"),
        (b"Mueller^Jo\xff", b"ISO_IR 100", "Mueller^Joÿ", "declared"),
        (b"Wang^XiaoDong=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab", b"\\ISO 2022 IR 58",
         "Wang^XiaoDong=王^小东", "declared"),
        (b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", b"\\ISO 2022 IR 87",
         "Yamada^Tarou=山田^太郎", "declared"),
        (b"\xff\xff\xff", b"", "\ufffd\ufffd\ufffd", "unreadable"),
        (b"A\x00B\x1bC\r\n", b"", "ABC", "declared"),
        (b"", b"", "", "declared"),
    ],
)  # fmt: skip
def test_the_ladder(raw: bytes, charset: bytes, text: str, source: str) -> None:
    assert decode(raw, charset) == (text, source)


def test_a_trail_byte_that_looks_like_a_backslash_splits_nothing() -> None:
    tricky = [
        character
        for character in (chr(point) for point in range(0x4E00, 0x9FA6))
        if (raw := character.encode("gbk", "ignore")) and raw[-1:] in b"\\^"
    ]
    assert len(tricky) > 200
    for character in tricky:
        name = f"{character}^{character}"
        assert decode(name.encode("gb18030"), b"").text == name
