from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from service.domain.datasets import Column
from service.domain.limits import TableLimits
from service.tables import measures, profile
from service.tables.parquet import from_arrays
from tests.unit.uploads import upload


def described(content: str) -> dict[str, Column]:
    return {column.name: column for column in upload(content.encode())[0].columns}


def listing(cells: Sequence[object], name: str = "a") -> str:
    return f"{name}\n" + "".join(f"{cell}\n" for cell in cells)


class TestNumbers:
    def test_measures_are_those_of_numpy(self) -> None:
        values = np.random.default_rng(5).normal(3, 2, 1_000).round(2)
        column = described(listing(values.tolist()))["a"]
        assert (column.kind, column.stored, column.is_integer) == ("numeric", "number", False)
        assert (column.missing, column.unique) == (0, len(np.unique(values)))
        assert column.mean == pytest.approx(values.mean())
        assert column.std == pytest.approx(values.std())
        assert (column.min, column.max) == (values.min(), values.max())
        assert column.quantiles is not None
        expected = np.quantile(values, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
        assert list(column.quantiles) == ["p1", "p5", "p25", "p50", "p75", "p95", "p99"]
        assert list(column.quantiles.values()) == pytest.approx(expected)
        assert column.histogram is not None
        counts, edges = np.histogram(values, 20)
        assert column.histogram.counts == tuple(counts)
        assert column.histogram.edges == pytest.approx(edges)
        assert (column.top, column.examples) == ((), tuple(dict.fromkeys(values.tolist()))[:3])

    def test_gaps_are_counted_and_left_out_of_the_measures(self) -> None:
        column = described(listing([4, "NA", 2, "?"]))["a"]
        assert (column.missing, column.unique, column.mean, column.std) == (2, 2, 3.0, 1.0)
        assert (column.min, column.max, column.is_integer) == (2, 4, True)

    def test_few_whole_numbers_have_a_bin_each_and_are_counted(self) -> None:
        column = described(listing([3, 1, 3, 5, 3, 1]))["a"]
        assert column.histogram is not None
        assert column.histogram.edges == (0.5, 1.5, 2.5, 3.5, 4.5, 5.5)
        assert column.histogram.counts == (2, 0, 3, 0, 1)
        assert column.top == ((3, 3), (1, 2), (5, 1))
        assert column.examples == (3, 1, 5)

    def test_more_than_twenty_different_numbers_are_not_listed(self) -> None:
        assert len(described(listing([*range(20), 5]))["a"].top) == 20
        assert described(listing([*range(21), 5]))["a"].top == ()

    @pytest.mark.parametrize("value", ["7", "0.1", "-3e38", "1e-300"])
    def test_constant_has_no_spread(self, value: str) -> None:
        column = described(listing([value] * 5))["a"]
        assert (column.std, column.unique, column.mean) == (0.0, 1, float(value))
        assert column.histogram is not None
        assert sum(column.histogram.counts) == 5

    def test_greatest_numbers_have_finite_measures(self) -> None:
        column = described(listing(["-3.4e38", "3.4e38", "0.5"] * 10))["a"]
        assert column.std == pytest.approx(3.4e38 * (2 / 3) ** 0.5)
        assert column.histogram is not None
        assert column.histogram.counts == (10, *[0] * 9, 10, *[0] * 8, 10)

    def test_examples_differ_even_if_the_column_begins_with_one_value(self) -> None:
        assert described(listing([0] * 500 + [2, 2, 1]))["a"].examples == (0, 2, 1)


class TestTexts:
    def test_frequent_values_are_counted_and_cut(self) -> None:
        column = described(listing(["x"] * 3 + ["y" * 100] * 5 + ["z"]))["a"]
        assert (column.kind, column.unique) == ("categorical", 3)
        assert column.top == (("y" * 64, 5), ("x", 3), ("z", 1))
        assert column.examples == ("x", "y" * 64, "z")
        assert (column.mean, column.min, column.histogram, column.quantiles) == (None, None, None, None)

    def test_no_more_than_twenty_are_listed_the_first_of_equals(self) -> None:
        column = described(listing([f"v{i:02}" for i in range(30)] * 2 + ["v29"]))["a"]
        assert column.top == (("v29", 3), *((f"v{i:02}", 2) for i in range(19)))

    def test_categories_that_differ_in_blanks_are_warned_of(self) -> None:
        column = described(listing(["x", " x", "y"] * 5))["a"]
        assert "1 of 3 different cells differ from another only in blanks" in column.warnings[0]

    def test_booleans_are_counted(self) -> None:
        column = described(listing(["false", "TRUE", "False", "NA"]))["a"]
        assert (column.kind, column.stored, column.missing, column.unique) == ("boolean", "boolean", 1, 2)
        assert (column.top, column.examples) == (((False, 2), (True, 1)), (False, True))


class TestDates:
    @pytest.mark.parametrize(
        ("cells", "written", "bounds"),
        [
            (["2020-01-31", "2019-12-01"], "iso", ("2019-12-01", "2020-01-31")),
            (["2020-01-31 10:00", "2020-01-31T12:00:00+01:00"], "iso", ("2020-01-31T10:00:00", "2020-01-31T11:00:00")),
            (["2020-01-31T10:00:00.25Z"] * 2, "iso", ("2020-01-31T10:00:00.250000",) * 2),
            (["31.12.2020", "1.2.2020"], "%d.%m.%Y", ("2020-02-01", "2020-12-31")),
            (["31.12.2020", "2020-02-01"], "%d.%m.%Y", ("2020-02-01", "2020-12-31")),
            (["12/31/2020", "01/02/2020"], "%m/%d/%Y", ("2020-01-02", "2020-12-31")),
            (
                ["31/12/2020 08:30", "01/02/2020 09:00"],
                "%d/%m/%Y %H:%M",
                ("2020-02-01T09:00:00", "2020-12-31T08:30:00"),
            ),
            (["2020/12/31", "?"], "%Y/%m/%d", ("2020-12-31", "2020-12-31")),
        ],
    )
    def test_dates_are_told_by_all_their_cells(
        self, cells: list[object], written: str, bounds: tuple[str, str]
    ) -> None:
        column = described(listing(cells))["a"]
        assert (column.kind, column.stored, column.date_format) == ("date", "text", written)
        assert (column.min, column.max) == bounds

    def test_histogram_is_in_days(self) -> None:
        column = described(listing(["1970-01-02"] * 3 + ["1970-01-22"]))["a"]
        assert column.histogram is not None
        assert (column.histogram.edges[0], column.histogram.edges[-1]) == (1.0, 21.0)
        assert (column.histogram.counts[0], column.histogram.counts[-1]) == (3, 1)
        assert column.top == (("1970-01-02", 3), ("1970-01-22", 1))

    def test_day_and_month_are_not_guessed(self) -> None:
        column = described(listing(["01/02/2020", "03/04/2020"] * 10))["a"]
        assert (column.kind, column.date_format) == ("categorical", None)
        assert "either way round" in column.warnings[0]
        assert "YYYY-MM-DD" in column.warnings[0]

    @pytest.mark.parametrize("cells", [["2020-02-30", "2020-02-01"], ["1.2.3", "4.5.6"], ["192.168.1.1", "10.0.0.1"]])
    def test_what_only_looks_like_dates_is_text(self, cells: list[object]) -> None:
        assert described(listing(cells))["a"].date_format is None


def test_arrow_table_is_described_without_a_file() -> None:
    table = from_arrays({"x": np.array([1.0, 2.0, np.nan]), "y": np.array(["a", "b", "a"], object)})
    numbers, texts = profile.describe(table)
    assert (numbers.kind, numbers.missing, numbers.mean) == ("numeric", 1, 1.5)
    assert (texts.kind, texts.top) == ("categorical", (("a", 2), ("b", 1)))


def test_float32_is_measured_in_float64() -> None:
    (column,) = profile.describe(pa.table({"x": pa.array([0.1, 0.3, 3e38, 3e38], pa.float32())}))
    assert column.std == pytest.approx(1.5e38)


def test_one_value_is_its_own_quantiles() -> None:
    assert set(measures.measure(np.array([4])).quantiles.values()) == {4.0}


def test_categories_are_as_many_as_the_service_allows() -> None:
    assert TableLimits().max_categories == profile.MAX_CATEGORIES


def test_description_goes_to_json_and_back() -> None:
    content = "n,t,d,b,e\n1,x,2020-01-01,true,\n2.5,y,2020-01-02,,\n,x,2020-01-01,false,\n"
    for column in described(content).values():
        assert Column.from_dict(column.to_dict()) == column
