"""The paper: what was signed, in embedded faces, on every page whose it is."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_edge.printing.faces import Faces, NoFace, NoGlyph
from lianzhen_edge.printing.report import Paper, code_of, pdf
from lianzhen_edge.printing.setting import Line, pages, wrap
from lianzhen_edge.settings import Settings
from lianzhen_protocol.opinion import OpinionSigned, PrintedPatient, check_digest, read_printed_code
from lianzhen_protocol.opinion_trust import RevocationList, Verdict, judge
from support.signers import DAY, NOW, NOW_MS, TestCa, document, key_of, signed

CA, KEY = TestCa(), key_of(3)
CERTIFICATE = CA.certificate(KEY)
PATHS = [Path(path) for path in Settings().fonts]
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def faces() -> Faces:
    return Faces(PATHS)


def judged(found: OpinionSigned, der: bytes | None = None, now_ms: int = NOW_MS) -> Verdict:
    held = RevocationList(der, [CA.root]) if der else None
    return judge(found, [CA.root], held, now_ms)


def paper(found: OpinionSigned | None = None, *, amended_by: str = "") -> Paper:
    found = found or signed(KEY, CERTIFICATE)
    return Paper(found, judged(found, CA.revocations()), NOW_MS, amended_by)


def read(made: bytes) -> list[str]:
    """The text of each page, as somebody would copy it."""
    return [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(made)).pages]


def test_it_prints_the_text_that_was_signed(faces: Faces) -> None:
    found = signed(KEY, CERTIFICATE)
    (text,) = read(pdf(paper(found), faces))
    said = document(CERTIFICATE)
    for part in (said.findings, said.conclusion, said.advice):
        for line in part.split("\n"):
            assert line in text
    for part in (said.clinic, said.department, said.patient.number, said.patient.birth_date):
        assert part in text
    assert f"签发医师：{said.signer.name}（{said.signer.title}）" in text
    assert said.signer.licence in text
    assert "2026-01-01 08:00" in text  # UTC+8


def test_rare_hanzi_are_glyphs_of_an_embedded_face(faces: Faces) -> None:
    made = pdf(paper(), faces)
    (text,) = read(made)
    assert "姓名：䶮㙍𠮷" in text
    page: Any = pypdf.PdfReader(io.BytesIO(made)).pages[0]
    fonts = [font for font in page["/Resources"]["/Font"].values() if "/FontDescriptor" in font]
    assert all("/FontFile2" in font["/FontDescriptor"] for font in fonts)  # the outlines
    names = {re.sub(r"^/\w+\+|-0$", "", font["/BaseFont"]) for font in fonts}
    assert names == {"WenQuanYiMicroHei", "HanaMinA"}


def test_a_character_that_no_face_has_is_an_error_and_no_box(faces: Faces) -> None:
    who = PrintedPatient(id="0" * 32, name="\U000e0f00", sex="", birth_date="", number="")
    found = signed(KEY, CERTIFICATE, document(CERTIFICATE, patient=who))
    with pytest.raises(NoGlyph, match="U\\+E0F00"):
        pdf(paper(found), faces)


def test_a_font_that_is_missing_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.ttf", Path(__file__)):
        with pytest.raises(NoFace, match=path.name):
            pdf(paper(), Faces([path]))


def test_the_large_faces_are_read_only_when_needed() -> None:
    plain = Faces([PATHS[0], Path("/nowhere.ttf")])
    assert plain.runs("联诊 CT") == [("lz-wqy-microhei", "联诊 CT")]
    with pytest.raises(NoFace):
        plain.runs("𠮷")


@pytest.mark.parametrize("size", ["A4", "A5"])
def test_every_page_says_whose_it_is_and_which_it_is(faces: Faces, size: str) -> None:
    long = "\n".join(f"第 {number} 条：右下肺斑片影，边界不清，随访复查。" for number in range(200))
    found = signed(KEY, CERTIFICATE, document(CERTIFICATE, findings=long))
    texts = read(pdf(paper(found), faces, size))
    assert len(texts) > 3
    for number, text in enumerate(texts, 1):
        assert f"第 {number} 页 / 共 {len(texts)} 页" in text
        assert "姓名：䶮㙍𠮷" in text
        assert "110105********002X" in text
    whole = "".join(texts)
    assert all(f"第 {number} 条" in whole for number in range(200))
    assert "签发医师" in texts[-1]
    assert "签发医师" not in "".join(texts[:-1])


def test_the_same_opinion_is_the_same_bytes(faces: Faces) -> None:
    assert pdf(paper(), faces) == pdf(paper(), Faces(PATHS))


def test_the_code_verifies_with_the_certificate_alone() -> None:
    found = read_printed_code(code_of(signed(KEY, CERTIFICATE)))
    check_digest(KEY.public_key(), found.suite, found.digest, found.signature)


def test_an_amendment_says_so_on_both_papers(faces: Faces) -> None:
    (first,) = read(pdf(paper(amended_by="f" * 32), faces))
    assert "另有补充意见" in first
    found = signed(KEY, CERTIFICATE, document(CERTIFICATE, amends="e" * 32))
    (second,) = read(pdf(paper(found), faces))
    assert "补充意见书" in second
    assert "e" * 32 in second


@pytest.mark.parametrize(
    ("der", "now_ms", "words"),
    [
        (None, NOW_MS, "尚无吊销名单"),
        (CA.revocations(), NOW_MS, "吊销名单截至 2026-01-01 08:00"),
        (CA.revocations(), NOW_MS + 9 * DAY_MS, "名单已过期"),
        (CA.revocations({0x1001: NOW + DAY}), NOW_MS, "于签发之后的 2026-01-02 08:00 被吊销"),
    ],
)
def test_the_paper_says_how_it_was_verified(
    faces: Faces, der: bytes | None, now_ms: int, words: str
) -> None:
    found = signed(KEY, CERTIFICATE)
    (text,) = read(pdf(Paper(found, judged(found, der, now_ms), now_ms), faces))
    assert words in text.replace("\n", "")


# -- lines and pages


def width(text: str) -> float:
    return sum(1.0 if ord(sign) < 0x2E80 else 2.0 for sign in text)


@given(st.text("联诊ab 1.,，。（）\n", max_size=60), st.integers(4, 20))
def test_wrapping_loses_nothing_but_blanks_and_keeps_to_the_room(text: str, room: int) -> None:
    lines = wrap(text, room, width)
    assert "".join(lines).replace(" ", "") == re.sub(r"[ \n]", "", text)
    assert all(width(line) <= room for line in lines)


def test_lines_break_where_chinese_may() -> None:
    assert wrap("右下肺斑片影，随访", 12, width) == ["右下肺斑片", "影，随访"]
    assert wrap("血氧饱和度（未吸氧）", 12, width) == ["血氧饱和度", "（未吸氧）"]
    assert wrap("剂量 0.25g qd", 9, width) == ["剂量", "0.25g qd"]
    assert wrap("a\n\nb", 9, width) == ["a", "", "b"]


@given(st.lists(st.tuples(st.floats(1, 20), st.floats(0, 10)), max_size=40), st.floats(0, 90))
def test_pages_keep_every_line_in_its_order(rows: list[tuple[float, float]], last: float) -> None:
    lines = [Line(str(at), size, space) for at, (size, space) in enumerate(rows)]
    found = pages(lines, 60, 100, last)
    assert [line for page in found for line in page] == lines
    for number, page in enumerate(found):
        used = sum(line.height + (line.space if at else 0) for at, line in enumerate(page))
        assert used <= (60 if number == 0 else 100) + 1e-6 or len(page) == 1
    used = sum(line.height + (line.space if at else 0) for at, line in enumerate(found[-1]))
    assert (
        used + last <= (60 if len(found) == 1 else 100) + 1e-6
        or not found[-1]
        or len(found[-1]) == 1
    )
