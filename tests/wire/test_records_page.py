"""docs/records.md is what the types say."""

from . import make_records


def test_the_page_of_records_is_made_from_the_types() -> None:
    told = make_records.PAGE.read_text(encoding="utf-8")
    assert told == make_records.page(), "run python tests/wire/make_records.py"
