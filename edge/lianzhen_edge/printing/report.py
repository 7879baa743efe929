"""A signed opinion on paper: the text that was signed and nothing else in its place, the patient
on every page, and a code by which anybody can verify it."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, NamedTuple

import segno
from reportlab.lib.pagesizes import A4, A5
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

from lianzhen_protocol.opinion import (
    Document,
    OpinionSigned,
    PrintedCode,
    digest,
    printed_code,
    read_document,
)
from lianzhen_protocol.opinion_trust import Standing, Verdict

from .faces import Faces
from .setting import Line, pages, wrap

PAPERS: Final = {"A4": A4, "A5": A5}
_CHINA: Final = timezone(timedelta(hours=8))
_MARGIN: Final = 14 * mm
_QR_SIDE: Final = 34 * mm
_TITLE, _HEAD, _TEXT, _SMALL = 15.0, 11.0, 10.5, 8.0


class Paper(NamedTuple):
    """What goes onto it: the opinion, and how this box's verification of it went."""

    signed: OpinionSigned
    verdict: Verdict
    verified_ms: int
    amended_by: str = ""


def pdf(paper: Paper, faces: Faces, size: str = "A4") -> bytes:
    """The document. NoGlyph for a character that no face has; the same bytes for the same paper."""
    return _Sheet(paper, faces, size).made()


def code_of(signed: OpinionSigned) -> str:
    """The text of the code that is printed."""
    document = read_document(signed.document)
    hashed = digest(signed.suite, signed.document)
    found = PrintedCode(document.id, signed.suite, hashed, signed.signature)
    return printed_code(signed.verify_url, found)


def china_time(ms: int) -> str:
    """A time as a clinic reads it."""
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(_CHINA).strftime("%Y-%m-%d %H:%M")


class _Sheet:
    def __init__(self, paper: Paper, faces: Faces, size: str) -> None:
        self._paper = paper
        self._document = read_document(paper.signed.document)
        self._faces = faces
        self._width, self._height = PAPERS[size]
        self._room = self._width - 2 * _MARGIN
        self._out = io.BytesIO()
        self._canvas = Canvas(self._out, pagesize=PAPERS[size], invariant=True, lang="zh-CN")
        self._canvas.setTitle("远程会诊意见书")  # no name: titles are shown where paper is not

    def made(self) -> bytes:
        banner = self._banner()
        head = _MARGIN + _TITLE * 2 + sum(line.height for line in banner) + 4 * mm
        room = self._height - head - _MARGIN - 8 * mm
        closing = self._closing()
        found = pages(self._body(), room, room, self._closing_height(closing))
        for number, lines in enumerate(found, 1):
            y = self._draw_head(banner)
            for at, line in enumerate(lines):
                y -= line.height + (line.space if at else 0.0)
                self._text(_MARGIN, y, line.text, line.size)
            if number == len(found):
                self._draw_closing(closing)
            self._draw_foot(number, len(found))
            self._canvas.showPage()
        self._canvas.save()
        return self._out.getvalue()

    # -- what is said

    def _banner(self) -> list[Line]:
        who = self._document.patient
        first = f"姓名：{who.name}　性别：{who.sex or '未知'}　出生：{who.birth_date or '不详'}"
        second = f"证件号：{who.number or '无'}　申请机构：{self._document.clinic}"
        third = f"会诊科室：{self._document.department}　会诊号：{self._document.consultation}"
        return self._lines([first, second, third], _HEAD - 1.5)

    def _body(self) -> list[Line]:
        document = self._document
        found = self._lines(_notes(document, self._paper.amended_by), _SMALL)
        for title, text in (
            ("检查所见", document.findings),
            ("诊断意见", document.conclusion),
            ("处理建议", document.advice),
        ):
            if text:
                found.append(Line(f"【{title}】", _HEAD, 3 * mm))
                found += self._lines(text.split("\n"), _TEXT)
        return found

    def _closing(self) -> list[Line]:
        by, verdict = self._document.signer, self._paper.verdict
        room = self._room - _QR_SIDE - 4 * mm
        lines = [
            f"签发医师：{by.name}（{by.title}）",
            f"执业证书编码：{by.licence}",
            f"签发时间：{china_time(self._document.signed_ms)}（北京时间）",
        ]
        small = [
            f"签名证书 SHA-256：{by.certificate}",
            f"本机核验：{_verdict_words(verdict)}（{china_time(self._paper.verified_ms)}）",
            "扫描右侧二维码可核验本意见是否真实、未改动、未撤销。",
        ]
        return self._lines(lines, _TEXT, room) + self._lines(small, _SMALL, room)

    # -- how it is drawn

    def _lines(self, texts: Sequence[str], size: float, room: float | None = None) -> list[Line]:
        def width(part: str) -> float:
            return self._faces.width(part, size)

        room = self._room if room is None else room
        return [Line(line, size) for text in texts for line in wrap(text, room, width)]

    def _draw_head(self, banner: Sequence[Line]) -> float:
        """Title and patient; the height below them."""
        title = "远程会诊补充意见书" if self._document.amends else "远程会诊意见书"
        y = self._height - _MARGIN - _TITLE
        left = (self._width - self._faces.width(title, _TITLE)) / 2
        self._text(left, y, title, _TITLE)
        y -= _TITLE / 2
        for line in banner:
            y -= line.height
            self._text(_MARGIN, y, line.text, line.size)
        y -= 2 * mm
        self._canvas.line(_MARGIN, y, self._width - _MARGIN, y)
        return y - 1 * mm

    def _closing_height(self, closing: Sequence[Line]) -> float:
        return max(_QR_SIDE, sum(line.height for line in closing)) + 4 * mm

    def _draw_closing(self, closing: Sequence[Line]) -> None:
        top = _MARGIN + 6 * mm + self._closing_height(closing)
        self._canvas.line(_MARGIN, top, self._width - _MARGIN, top)
        y = top - 2 * mm
        for line in closing:
            y -= line.height
            self._text(_MARGIN, y, line.text, line.size)
        self._draw_code(self._width - _MARGIN - _QR_SIDE, top - 2 * mm - _QR_SIDE)

    def _draw_code(self, x: float, y: float) -> None:
        code = segno.make(code_of(self._paper.signed), error="m", micro=False)
        rows = [list(row) for row in code.matrix_iter(border=4)]
        step = _QR_SIDE / len(rows)
        path = self._canvas.beginPath()
        for down, row in enumerate(rows):
            for across, dark in enumerate(row):
                if dark:
                    path.rect(x + across * step, y + _QR_SIDE - (down + 1) * step, step, step)
        self._canvas.drawPath(path, stroke=0, fill=1)

    def _draw_foot(self, number: int, count: int) -> None:
        y = _MARGIN - 2 * mm
        self._text(_MARGIN, y, f"意见编号：{self._document.id}", _SMALL)
        page = f"第 {number} 页 / 共 {count} 页"
        self._text(self._width - _MARGIN - self._faces.width(page, _SMALL), y, page, _SMALL)

    def _text(self, x: float, y: float, text: str, size: float) -> None:
        line = self._canvas.beginText(x, y)
        for face, part in self._faces.runs(text):
            line.setFont(face, size)
            line.textOut(part)
        self._canvas.drawText(line)


def _notes(document: Document, amended_by: str) -> list[str]:
    found = []
    if document.amends:
        found.append(f"本意见补充编号为 {document.amends} 的意见，原意见不变。")
    if amended_by:
        found.append(f"注意：本意见另有补充意见，编号 {amended_by}，请一并阅读。")
    return found


def _verdict_words(verdict: Verdict) -> str:
    as_of = china_time(verdict.list_ms) if verdict.list_ms is not None else ""
    if verdict.standing is Standing.UNCHECKED:
        return "签名与证书有效；本机尚无吊销名单，未能查询吊销"
    words = f"签名、证书链、用途、有效期、吊销均已离线核验，吊销名单截至 {as_of}"
    if verdict.list_overdue:
        words += "（名单已过期）"
    if verdict.revoked_ms is not None:
        words += f"；证书于签发之后的 {china_time(verdict.revoked_ms)} 被吊销"
    return words
