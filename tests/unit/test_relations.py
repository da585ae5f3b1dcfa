from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from service.domain.datasets import ImportedTable, Related
from service.tables.cells import TypedColumn
from service.tables.relations import count_duplicates
from tests.unit.uploads import upload

GENERATOR = np.random.default_rng(3)


def imported(**columns: Iterable[object]) -> ImportedTable:
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(str(cell) for cell in row) for row in rows)]
    return upload("\n".join(lines).encode())[0]


def noise(rows: int = 200) -> list[float]:
    return [float(value) for value in GENERATOR.normal(size=rows).round(6)]


class TestDuplicates:
    def test_rows_equal_to_an_earlier_one_are_counted(self) -> None:
        table = imported(a=[1, 2, 1, 1, ""], b=["x", "x", "x", "y", ""], c=[1.5, 1.5, 1.5, 1.5, 1.5])
        assert table.report.duplicate_rows == 1
        assert "1 of 5 rows are equal to an earlier one" in table.report.warnings[-1]

    def test_missing_cells_are_equal_to_each_other_only(self) -> None:
        assert imported(a=[0, "", "", 0.5], b=["x", "x", "x", "x"]).report.duplicate_rows == 1

    def test_numbers_of_half_the_width_are_counted_beside_others(self) -> None:
        columns = {"a": pa.array([1.5, None, 1.5, 2.5], pa.float32()), "b": pa.array([1, 2, 1, 1], pa.int64())}
        typed = [TypedColumn(name, pa.chunked_array([values])) for name, values in columns.items()]
        assert count_duplicates(typed) == 1

    def test_no_two_of_a_million_rows_of_small_numbers_are_mistaken_for_equal(self) -> None:
        a, b = np.divmod(np.arange(1_000_000), 1_000)
        columns = {"a": a, "b": b.astype(float), "c": (a ^ b).astype(float)}
        typed = [TypedColumn(name, pa.chunked_array([values])) for name, values in columns.items()]
        assert count_duplicates(typed) == 0


class TestRelated:
    def test_equal_columns_are_paired_with_the_first(self) -> None:
        values = noise()
        table = imported(a=values, b=values, c=values, d=noise())
        assert table.report.related == (Related("a", "b", "equal", 1.0), Related("a", "c", "equal", 1.0))
        assert "equal, cell by cell: 'a = b', 'a = c'" in table.report.warnings[0]

    def test_columns_that_differ_in_one_cell_are_not_equal(self) -> None:
        values = noise()
        (pair,) = imported(a=values, b=[*values[:-1], values[-1] + 0.001]).report.related
        assert pair.how == "correlated"

    def test_correlation_close_to_one_or_minus_one_is_found(self) -> None:
        values = noise()
        table = imported(a=values, b=[-2 * value + 1 for value in values], c=noise())
        assert table.report.related == (Related("a", "b", "correlated", -1.0),)

    def test_gaps_do_not_hide_a_correlation(self) -> None:
        values: list[object] = [*noise(199), ""]
        doubled = [value if value == "" else 2 * float(str(value)) for value in values]
        assert [pair.how for pair in imported(a=values, b=doubled).report.related] == ["correlated"]

    def test_classes_that_stand_for_each_other_are_found(self) -> None:
        codes = [int(code) for code in GENERATOR.integers(0, 4, 200)]
        table = imported(code=codes, name=["zyxw"[code] for code in codes], other=noise())
        assert table.report.related == (Related("code", "name", "one_to_one", 1.0),)

    def test_classes_of_which_two_stand_for_one_are_not(self) -> None:
        codes = [int(code) for code in GENERATOR.integers(0, 4, 200)]
        assert imported(code=codes, name=["wxyy"[code] for code in codes]).report.related == ()

    def test_no_pair_is_reported_twice(self) -> None:
        codes = [int(code) for code in GENERATOR.integers(0, 2, 200)]
        table = imported(a=codes, b=codes, c=[1 - code for code in codes])
        assert table.report.related == (Related("a", "b", "equal", 1.0), Related("a", "c", "correlated", -1.0))

    def test_few_rows_and_constant_columns_say_nothing(self) -> None:
        assert imported(a=[1, 2, 3], b=[1, 2, 3]).report.related == ()
        assert imported(a=[7] * 50, b=[7] * 50, c=noise(50)).report.related == ()

    def test_pairs_of_a_wide_table_are_bounded(self) -> None:
        values = noise(30)
        table = imported(**{f"c{i}": [value + i for value in values] for i in range(250)})
        assert len(table.report.related) == 100


def test_whole_numbers_that_float64_does_not_hold_are_compared_nevertheless() -> None:
    assert imported(a=[2**53 + 1 + 3 * i for i in range(40)], b=noise(40)).report.related == ()


class TestWarnings:
    def test_constant_empty_and_id_columns_are_named(self) -> None:
        table = imported(row=range(1, 31), same=["x"] * 30, none=["NA"] * 30, value=noise(30))
        assert table.report.warnings == (
            "no cells at all in: 'none'",
            "always the same, so nothing can be learned from: 'same'",
            "look like identifiers and are left out of training: 'row'",
        )

    def test_lists_of_names_are_cut(self) -> None:
        table = imported(**{f"c{i}": [1] * 3 for i in range(9)})
        assert "'c0', 'c1', 'c2', 'c3', 'c4' and 4 more" in table.report.warnings[0]

    def test_ordinary_table_has_none(self) -> None:
        assert imported(a=noise(), b=["x", "y"] * 100).report.warnings == ()
