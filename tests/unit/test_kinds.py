from dataclasses import replace

import pytest

from service.domain.datasets import Column, ColumnKind
from service.domain.errors import InvalidTable
from service.domain.kinds import change_kind, counting_warning, guess_kind, left_out_warning

MAX_CATEGORIES = 100
INTEGERS = Column("a", "numeric", "number", is_integer=True, missing=0, unique=50, min=1, max=99)
TEXTS = Column("a", "categorical", "text", missing=0, unique=12)
FLAGS = Column("a", "boolean", "boolean", missing=0, unique=2)


def guess(column: Column, rows: int = 50, *, looks_like_code: bool = False) -> ColumnKind:
    return guess_kind(column, rows, MAX_CATEGORIES, looks_like_code=looks_like_code)


class TestGuess:
    def test_booleans_and_numbers_are_what_they_are(self) -> None:
        assert guess(FLAGS) == "boolean"
        assert guess(replace(INTEGERS, unique=49)) == "numeric"
        assert guess(replace(INTEGERS, is_integer=False, min=1.0, max=50.0)) == "numeric"

    def test_integers_that_count_rows_stay_numbers_with_a_warning(self) -> None:
        counting = replace(INTEGERS, min=1, max=50)
        assert guess(counting) == "numeric"
        assert "every number from 1 to 50 once" in str(counting_warning(counting, 50))
        assert counting_warning(replace(counting, max=51), 50) is None
        assert counting_warning(replace(counting, unique=49, missing=1), 50) is None
        assert counting_warning(replace(counting, max=19, unique=19), 19) is None
        assert counting_warning(replace(counting, kind="id"), 50) is None

    @pytest.mark.parametrize(
        "name", ["id", "ID", "user_id", "userId", "PassengerId", "row id", "Index", "uuid", "__index_level_0__"]
    )
    def test_integers_that_all_differ_and_are_called_so_are_an_id(self, name: str) -> None:
        assert guess(replace(INTEGERS, name=name)) == "id"

    @pytest.mark.parametrize("name", ["paid", "valid", "width", "idle", "humidity", "price"])
    def test_other_names_make_no_id(self, name: str) -> None:
        assert guess(replace(INTEGERS, name=name)) == "numeric"

    def test_texts_that_all_differ_are_an_id_if_short_and_without_blanks(self) -> None:
        assert guess(replace(TEXTS, unique=50), looks_like_code=True) == "id"
        assert guess(replace(TEXTS, unique=50)) == "text"
        assert guess(replace(TEXTS, unique=19), rows=19, looks_like_code=True) == "text"

    def test_texts_that_repeat_are_categories(self) -> None:
        assert guess(TEXTS) == "categorical"
        assert guess(replace(TEXTS, unique=10), rows=11) == "categorical"
        assert guess(replace(TEXTS, unique=11), rows=21) == "text"
        assert guess(replace(TEXTS, unique=11), rows=22) == "categorical"
        assert guess(replace(TEXTS, unique=11, missing=1), rows=22) == "text"
        assert guess(replace(TEXTS, unique=2), rows=2) == "text"

    def test_too_many_categories_are_free_text(self) -> None:
        assert guess(replace(TEXTS, unique=MAX_CATEGORIES), rows=1_000) == "categorical"
        assert guess(replace(TEXTS, unique=MAX_CATEGORIES + 1), rows=1_000) == "text"

    def test_dates_are_dates_and_nothing_is_text(self) -> None:
        assert guess(replace(TEXTS, date_format="iso")) == "date"
        assert guess(replace(TEXTS, unique=0, missing=50)) == "text"


class TestChange:
    @pytest.mark.parametrize(
        ("column", "kinds"),
        [
            (INTEGERS, {"numeric", "categorical", "id", "text"}),
            (replace(INTEGERS, unique=101), {"numeric", "id", "text"}),
            (replace(INTEGERS, unique=2, min=0, max=1), {"numeric", "categorical", "boolean", "id", "text"}),
            (replace(INTEGERS, unique=1, min=1.0, max=1.0), {"numeric", "categorical", "boolean", "id", "text"}),
            (replace(INTEGERS, unique=2, min=0, max=2), {"numeric", "categorical", "id", "text"}),
            (FLAGS, {"boolean", "categorical", "id", "text"}),
            (TEXTS, {"categorical", "id", "text"}),
            (replace(TEXTS, kind="text", unique=101), {"id", "text"}),
            (replace(TEXTS, date_format="iso"), {"categorical", "date", "id", "text"}),
        ],
    )
    def test_column_can_be_what_its_cells_allow(self, column: Column, kinds: set[ColumnKind]) -> None:
        every: tuple[ColumnKind, ...] = ("numeric", "categorical", "boolean", "date", "id", "text")
        for kind in every:
            if kind in kinds:
                assert change_kind(column, kind, MAX_CATEGORIES) == replace(column, kind=kind)
            else:
                with pytest.raises(InvalidTable) as refusal:
                    change_kind(column, kind, MAX_CATEGORIES)
                assert refusal.value.violations[0].pointer == "#/kinds/a"

    @pytest.mark.parametrize(
        ("column", "kind", "words"),
        [
            (TEXTS, "numeric", r"upload it again with \?kinds=a:numeric"),
            (TEXTS, "date", "YYYY-MM-DD"),
            (TEXTS, "boolean", "true and false"),
            (INTEGERS, "boolean", "between 1 and 99"),
            (INTEGERS, "date", "it can be numeric, categorical, id, text"),
            (replace(TEXTS, unique=101, kind="text"), "categorical", "101 different cells; .* at most 100"),
        ],
    )
    def test_refusal_says_what_can_be_done(self, column: Column, kind: ColumnKind, words: str) -> None:
        with pytest.raises(InvalidTable, match=words):
            change_kind(column, kind, MAX_CATEGORIES)

    def test_what_was_measured_stays_so_that_the_way_back_is_open(self) -> None:
        measured = replace(INTEGERS, mean=5.0, std=1.0)
        there = change_kind(measured, "categorical", MAX_CATEGORIES)
        assert change_kind(there, "numeric", MAX_CATEGORIES) == measured

    def test_warning_of_a_guess_goes_with_the_guess(self) -> None:
        guessed = replace(INTEGERS, kind="id", warnings=("holds odd cells",))
        warning = left_out_warning(guessed, MAX_CATEGORIES)
        assert warning is not None
        column = replace(guessed, warnings=(*guessed.warnings, warning))
        assert change_kind(column, "numeric", MAX_CATEGORIES).warnings == ("holds odd cells",)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (replace(INTEGERS, kind="id"), "?kinds=a:numeric"),
        (replace(TEXTS, kind="id"), "?kinds=a:categorical"),
        (replace(TEXTS, kind="text"), "?kinds=a:categorical"),
        (replace(TEXTS, kind="text", unique=101), "too many for categories"),
        (replace(TEXTS, kind="text", unique=0), "no cells at all"),
    ],
)
def test_columns_that_are_left_out_say_how_to_take_them_in(column: Column, words: str) -> None:
    assert words in (left_out_warning(column, MAX_CATEGORIES) or "")


def test_columns_that_are_taken_need_no_warning() -> None:
    assert [left_out_warning(column, MAX_CATEGORIES) for column in (INTEGERS, TEXTS, FLAGS)] == [None] * 3
