"""The encoding against bytes of RFC 8010, and against whatever else may come."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_edge.printing import ipp
from lianzhen_edge.printing.ipp import Attribute, IppError


def test_a_request_is_what_the_standard_shows() -> None:
    # RFC 8010, A.1, with the attributes that we send
    head = [
        Attribute("attributes-charset", ipp.CHARSET, ("utf-8",)),
        Attribute("attributes-natural-language", ipp.LANGUAGE, ("en-us",)),
        Attribute("printer-uri", ipp.URI, ("ipp://printer.example.com/ipp/print/pinetree",)),
        Attribute("job-name", ipp.NAME, ("foobar",)),
        Attribute("ipp-attribute-fidelity", ipp.BOOLEAN, (True,)),
    ]
    job = [Attribute("copies", ipp.INTEGER, (20,)), Attribute("sides", ipp.KEYWORD, ("two", "one"))]
    made = ipp.request(0x0002, 1, [(ipp.OPERATION, head), (ipp.JOB, job)], b"%!PDF...")
    assert made == (
        b"\x02\x00\x00\x02\x00\x00\x00\x01\x01"
        b"\x47\x00\x12attributes-charset\x00\x05utf-8"
        b"\x48\x00\x1battributes-natural-language\x00\x05en-us"
        b"\x45\x00\x0bprinter-uri\x00\x2cipp://printer.example.com/ipp/print/pinetree"
        b"\x42\x00\x08job-name\x00\x06foobar"
        b"\x22\x00\x16ipp-attribute-fidelity\x00\x01\x01"
        b"\x02\x21\x00\x06copies\x00\x04\x00\x00\x00\x14"
        b"\x44\x00\x05sides\x00\x03two\x44\x00\x00\x00\x03one"
        b"\x03%!PDF..."
    )


def test_an_answer_is_read() -> None:
    raw = (
        b"\x02\x00\x04\x06\x00\x00\x00\x01\x01"
        b"\x41\x00\x0estatus-message\x00\x04gone"
        b"\x02\x23\x00\x09job-state\x00\x04\x00\x00\x00\x09"
        b"\x44\x00\x11job-state-reasons\x00\x01a\x44\x00\x00\x00\x01b"
        b"\x36\x00\x08job-name\x00\x0b\x00\x02zh\x00\x05\xe8\x81\x94xx"
        b"\x30\x00\x06opaque\x00\x02\x00\xff"
        b"\x03"
    )
    found = ipp.answer(raw)
    assert (found.status, found.good, found.message()) == (0x0406, False, "gone")
    (job,) = found.of(ipp.JOB)
    assert job == {
        "job-state": (9,),
        "job-state-reasons": ("a", "b"),
        "job-name": ("联xx",),
        "opaque": (b"\x00\xff",),
    }


@given(st.binary(max_size=80))
def test_any_bytes_are_an_answer_or_one_error(raw: bytes) -> None:
    with contextlib.suppress(IppError):
        assert isinstance(ipp.answer(raw), ipp.Answer)


@given(st.binary(max_size=60))
def test_any_attributes_are_an_answer_or_one_error(raw: bytes) -> None:
    with pytest.raises(IppError):
        ipp.answer(
            b"\x02\x00\x00\x00\x00\x00\x00\x01\x01" + raw.replace(b"\x03", b"") + b"\x44\xff"
        )
