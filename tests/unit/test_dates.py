from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.dates import FORMATS, ISO, detect, parse, parse_one


@pytest.mark.parametrize(
    ("texts", "formats"),
    [
        (["2020-01-31", "2020-02-01T10:00:00.5Z"], (ISO,)),
        (["2020-01-31 10:00"], (ISO,)),
        (["31.01.2020", "1.2.2020"], ("%d.%m.%Y",)),
        (["2020/01/31"], ("%Y/%m/%d",)),
        (["31/01/2020", "02/03/2020"], ("%d/%m/%Y",)),
        (["01/31/2020 10:00"], ("%m/%d/%Y %H:%M",)),
        (["01/02/2020", "03/04/2021"], ("%d/%m/%Y", "%m/%d/%Y")),
        (["2020-02-30"], ()),
        (["2020-01-31", "soon"], ()),
        (["20200131"], ()),
        (["NaT", "2020-01-31"], ()),
        (["2020-01-31T10"], ()),
        (["0000-01-01"], ()),
        (["2020-01-31T10:00:00.1234567"], ()),
        (["12.5"], ()),
        ([], ()),
    ],
)
def test_format_is_the_one_that_fits_every_text(texts: list[str], formats: tuple[str, ...]) -> None:
    assert detect(texts) == formats


def test_gaps_and_texts_that_are_no_dates_are_told_apart() -> None:
    moments, lost = parse(np.array(["2020-01-31", None, "soon"], object), ISO)
    assert np.isnat(moments).tolist() == [False, True, True]
    assert lost.tolist() == [2]


@given(
    st.lists(st.none() | st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), min_size=1, max_size=20),
    st.sampled_from(FORMATS),
)
def test_what_a_format_writes_it_reads(moments: list[datetime | None], written: str) -> None:
    def write(moment: datetime) -> str:
        return moment.isoformat() if written == ISO else moment.strftime(written)

    texts = np.array([None if moment is None else write(moment) for moment in moments], object)
    expected = [
        None if moment is None else moment if written == ISO else datetime.strptime(write(moment), written)
        for moment in moments
    ]
    found, lost = parse(texts, written)
    assert found.astype(object).tolist() == expected
    assert not len(lost)


def test_zone_is_turned_into_utc() -> None:
    east = datetime(2020, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert parse_one(east.isoformat(), ISO) == east.astimezone(UTC).replace(tzinfo=None)
    column = np.array(["2020-01-01T01:00+02:00", "2020-01-01"], object)
    assert parse(column, ISO)[0].astype(str).tolist() == ["2019-12-31T23:00:00.000000", "2020-01-01T00:00:00.000000"]


@given(st.lists(st.from_regex(r"\d{4}-\d{2}-\d{2}([T ]\d{2}(:\d{2}){0,2}(\.\d{0,8})?)?Z?|NaT|today", fullmatch=True)))
def test_a_column_is_read_as_each_of_its_cells_is(texts: list[str]) -> None:
    moments, _ = parse(np.array(texts, object), ISO)
    assert moments.astype(object).tolist() == [parse_one(text, ISO) for text in texts]


def test_endless_text_is_no_date_at_once() -> None:
    assert parse_one("2020-" + "00:00" * 200_000, ISO) is None
    assert parse(np.array(["2020-" + "00:00" * 200_000], object), ISO)[1].tolist() == [0]
