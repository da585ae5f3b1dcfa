from contextlib import suppress

import pytest
from fastapi import HTTPException
from hypothesis import given
from hypothesis import strategies as st

from service.api.formats.negotiation import (
    ARROW,
    CSV,
    FORMATS,
    JSON,
    NDJSON,
    NPY,
    answer_type,
    body_type,
    check_encoding,
)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("TEXT/CSV", CSV),
        ("text/csv, application/json", CSV),
        ("text/csv;q=0.5, application/json;q=0.6", JSON),
        ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", JSON),
        ("application/json, text/plain, */*", JSON),
        (f"*/*, {ARROW}", ARROW),
        (f"{ARROW};q=0, */*", JSON),
        ("application/json;q=0, */*;q=0.1", ARROW),
        (f"application/json;q=0.2, {NPY};q=0.9, text/csv;q=nonsense", NPY),
        ("application/x-ndjson;q=0.001", NDJSON),
        ('text/plain;what="a, text/csv;q=1", application/x-npy', NPY),
        ("text/csv;q=0.1;header=absent", CSV),
    ],
)
def test_best_liked_format_is_given(accept: str | None, wanted: str) -> None:
    assert answer_type(accept).name == wanted


@pytest.mark.parametrize(
    "accept", ["text/html", "image/*", "application/json;q=0", "*/*;q=0", "text/csv;q=2", "json", ","]
)
def test_what_there_is_not_is_refused_with_what_there_is(accept: str) -> None:
    with pytest.raises(HTTPException) as caught:
        answer_type(accept)
    assert caught.value.status_code == 406
    assert all(name in caught.value.detail for name in FORMATS)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255)))
def test_any_header_is_read_or_refused(header: str) -> None:
    for read in (answer_type, body_type):
        with suppress(HTTPException):
            assert read(header).name in FORMATS


def test_csv_says_whether_it_has_a_line_of_names() -> None:
    assert body_type("text/csv").has_header_line
    assert body_type("text/csv; charset=UTF-8; header=present").has_header_line
    assert not body_type('text/csv; Header="absent"').has_header_line
    assert not body_type("text/csv; header*=utf-8''absent").has_header_line
    assert not answer_type("text/csv; header=absent").has_header_line


def test_other_names_of_lines_of_json_are_known() -> None:
    assert {body_type(f"application/{name}").name for name in ("jsonl", "x-jsonlines", "ndjson", "x-ndjson")} == {
        NDJSON
    }


@pytest.mark.parametrize("header", [None, "", "text/plain", "application/octet-stream", "text/csv; charset=latin-1"])
def test_body_that_cannot_be_read_is_refused_by_its_type(header: str | None) -> None:
    with pytest.raises(HTTPException) as caught:
        body_type(header)
    assert caught.value.status_code == 415


def test_compressed_body_is_refused() -> None:
    check_encoding(None)
    check_encoding("Identity")
    with pytest.raises(HTTPException) as caught:
        check_encoding("gzip")
    assert caught.value.status_code == 415
