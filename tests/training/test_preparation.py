"""From a messy table to arrays: encoders fitted on training rows only, and every way to divide the rows."""

import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service import encoding
from service.domain.datasets import Column
from service.domain.encoders import CategoricalEncoder, DateEncoder, NumericEncoder, Quantile, Robust
from service.domain.jobs import PART_CODES
from service.domain.spec import JobSpec, PreparationSpec
from service.domain.table import Table
from service.domain.training_errors import UnusableSplit
from service.inference.rows import check
from workers.preparation import Prepared, prepare, standardize
from workers.splits import Split

ROWS = 200


def texts(*cells: Any) -> NDArray[Any]:
    array = np.empty(len(cells), object)
    array[:] = cells
    return array


def messy(rows: int = ROWS) -> tuple[Table, dict[str, Column]]:
    """A table with every kind of column, gaps in most."""
    rng = np.random.default_rng(0)
    amount = rng.lognormal(3, 2, rows)
    amount[::7] = np.nan
    days = np.datetime64("2020-01-01") + rng.integers(0, 900, rows)
    columns: dict[str, NDArray[Any]] = {
        "amount": amount,
        "count": rng.integers(0, 9, rows),
        "city": texts(*(None if i % 11 == 0 else f"city {i % 5}" for i in range(rows))),
        "flag": texts(*(None if i % 13 == 0 else bool(i % 2) for i in range(rows))),
        "day": texts(*(None if i % 17 == 0 else str(day) for i, day in enumerate(days))),
        "customer": texts(*(f"c{i % 40}" for i in range(rows))),
        "part": texts(*("test" if i % 5 == 0 else "train" for i in range(rows))),
        "y": np.where(np.arange(rows) % 19 == 0, np.nan, np.nan_to_num(amount) ** 0.5 + rng.normal(size=rows)),
        "label": texts(*("yes" if i % 3 else "no" for i in range(rows))),
    }
    described = {
        "amount": Column("amount", "numeric", missing=29, missing_tokens={"?": 29}),
        "count": Column("count", "numeric", is_integer=True, missing=0),
        "city": Column("city", "categorical", "text", missing=19, unique=5),
        "flag": Column("flag", "boolean", "boolean", missing=16, unique=2),
        "day": Column("day", "date", "text", missing=12, date_format="iso"),
        "customer": Column("customer", "categorical", "text", missing=0, unique=40),
        "part": Column("part", "categorical", "text", missing=0, unique=2),
        "y": Column("y", "numeric", missing=11),
        "label": Column("label", "categorical", "text", missing=0, unique=2),
    }
    return Table(columns), described


FEATURES = ["amount", "count", "city", "flag", "day"]


def spec(task: str = "regression", preparation: dict[str, Any] | None = None, **training: Any) -> JobSpec:
    default = {"split": "stratified" if task == "classification" else "random", "test_fraction": 0.2}
    return JobSpec.model_validate(
        {
            "dataset": "d",
            "target": "y" if task == "regression" else "label",
            "features": FEATURES,
            "task": task,
            "preparation": preparation or {},
            "training": {**default, **training},
        }
    )


def split_of(table: Table, columns: dict[str, Column], asked: JobSpec) -> Split:
    return prepare(asked, table, columns).split


def test_every_encoded_column_is_standardized_on_the_training_rows() -> None:
    data = prepare(spec(), *messy())
    np.testing.assert_allclose(data.training.rows.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(data.training.rows.std(axis=0), 1, atol=1e-5)
    assert data.training.rows.shape[1] == len(data.inputs.encoded) == 2 + 1 + 6 + 2 + 8


def test_what_the_other_parts_hold_changes_nothing_that_is_fitted() -> None:
    table, columns = messy()
    before = prepare(spec("classification"), table, columns)
    held_out = np.concatenate([before.split.validation, before.split.test])
    changed = {name: values.copy() for name, values in table.columns.items()}
    changed["amount"][held_out] = 1e6
    changed["city"][held_out] = "elsewhere"
    changed["flag"][held_out] = True
    changed["day"][held_out] = "1900-01-01"
    after = prepare(spec("classification"), Table(changed), columns)
    assert after.inputs == before.inputs
    np.testing.assert_array_equal(after.training.rows, before.training.rows)


def test_raw_rows_are_encoded_in_serving_as_they_were_in_training() -> None:
    for numeric in ("standard", "robust", "quantile"):
        data = prepare(spec(preparation={"numeric": numeric}), *messy())
        served = standardize(check(data.raw_probe, data.inputs).encoded(), data.inputs)
        np.testing.assert_array_equal(data.probe, served)


def test_rows_without_a_target_are_in_no_part() -> None:
    table, columns = messy()
    split = split_of(table, columns, spec())
    together = np.concatenate([split.training, split.validation, split.test])
    assert sorted(together.tolist()) == np.flatnonzero(~np.isnan(table.columns["y"])).tolist()
    assert np.isfinite(prepare(spec(), table, columns).training.targets).all()


def test_stored_split_has_one_code_per_row() -> None:
    table, columns = messy()
    split = split_of(table, columns, spec())
    codes = np.frombuffer(zlib.decompress(split.to_bytes(ROWS)), np.uint8)
    for part in ("training", "validation", "test"):
        np.testing.assert_array_equal(np.flatnonzero(codes == PART_CODES[part]), getattr(split, part))
    assert np.count_nonzero(codes == PART_CODES["left_out"]) == 11


@pytest.mark.parametrize("training", [{}, {"split": "group", "split_column": "customer"}])
def test_equal_seeds_draw_equal_parts_and_others_do_not(training: dict[str, Any]) -> None:
    table, columns = messy()
    first, again, other = (split_of(table, columns, spec(seed=seed, **training)) for seed in (1, 1, 2))
    assert first.to_bytes(ROWS) == again.to_bytes(ROWS) != other.to_bytes(ROWS)


def test_groups_stay_together() -> None:
    table, columns = messy()
    split = split_of(table, columns, spec(split="group", split_column="customer"))
    groups = [set(table.columns["customer"][rows]) for rows in (split.training, split.validation, split.test)]
    assert all(groups)
    assert sum(map(len, groups)) == len(set.union(*groups)) == 40


def test_latest_rows_are_the_test_part() -> None:
    table, columns = messy()
    dated = {**table.columns, "day": texts(*(str(np.datetime64("2021-12-31") - i) for i in range(ROWS)))}
    columns["day"] = Column("day", "date", "text", missing=0, date_format="iso")
    split = split_of(Table(dated), columns, spec("classification", split="time", split_column="day"))
    assert split.test.tolist() == list(range(40))
    assert split.validation.tolist() == list(range(40, 72))


def test_order_takes_the_last_rows() -> None:
    split = split_of(*messy(), spec("classification", split="order", test_fraction=0.1, validation_fraction=0.5))
    assert (split.training.tolist(), split.validation.tolist()) == (list(range(90)), list(range(90, 180)))
    assert split.test.tolist() == list(range(180, 200))


def test_column_says_the_part_and_validation_rows_are_drawn_where_it_names_none() -> None:
    table, columns = messy()
    asked = spec("classification", split="column", split_column="part", test_fraction=None)
    split = split_of(table, columns, asked)
    assert split.test.tolist() == list(range(0, ROWS, 5))
    assert len(split.validation) == 32
    words = table.columns["part"].copy()
    words[1:41:5] = "validation"
    split = split_of(Table({**table.columns, "part": words}), columns, asked)
    assert split.validation.tolist() == list(range(1, 41, 5))


def test_split_that_leaves_nothing_to_train_on_says_so() -> None:
    table, columns = messy()
    one = Table({**table.columns, "customer": texts(*["a"] * ROWS)})
    with pytest.raises(UnusableSplit, match="in 1 whole group"):
        split_of(one, columns, spec("classification", split="group", split_column="customer"))
    lost = np.where(table.columns["part"] == "train", np.nan, table.columns["y"])
    by_column = spec(split="column", split_column="part", test_fraction=None)
    with pytest.raises(UnusableSplit, match="leaves 0 row"):
        split_of(Table({**table.columns, "y": lost}), columns, by_column)
    lost[1] = 1.0
    with pytest.raises(UnusableSplit, match="would validate on 1 of 1"):
        split_of(
            Table({**table.columns, "y": lost}),
            columns,
            spec(split="column", split_column="part", test_fraction=None, validation_fraction=0.9),
        )


def test_split_column_that_does_not_say_parts_in_every_row_is_refused() -> None:
    table, columns = messy()
    asked = spec(split="column", split_column="part", test_fraction=None)
    odd = table.columns["part"].copy()
    odd[3] = "holdout"
    with pytest.raises(UnusableSplit, match="'holdout'"):
        split_of(Table({**table.columns, "part": odd}), columns, asked)
    lost = table.columns["part"].copy()
    lost[19] = "validation"  # a row without a target
    with pytest.raises(UnusableSplit, match="none of them has a target"):
        split_of(Table({**table.columns, "part": lost}), columns, asked)


def test_groups_fill_a_part_up_to_the_rows_that_are_wanted() -> None:
    table, columns = messy()
    uneven = texts(*["large"] * 120, *(f"g{i % 20}" for i in range(80)))
    for seed in range(10):
        asked = spec("classification", split="group", split_column="customer", seed=seed)
        split = split_of(Table({**table.columns, "customer": uneven}), columns, asked)
        assert 36 <= len(split.test) <= 44
        assert len(split.training) > 100


def test_classes_keep_their_share() -> None:
    data = prepare(spec("classification"), *messy())
    for part in (data.training, data.validation, data.test):
        assert part.targets.mean() == pytest.approx(2 / 3, abs=0.03)


def test_whole_numbers_stay_classes_although_gaps_made_them_floats() -> None:
    table, columns = messy()
    grade = np.arange(ROWS) % 3 + 0.0
    grade[:5] = np.nan
    columns["label"] = Column("label", "numeric", is_integer=True, missing=5, unique=3)
    data = prepare(spec("classification"), Table({**table.columns, "label": grade}), columns)
    assert data.outputs.classes == (0, 1, 2)
    assert all(type(label) is int for label in data.outputs.classes)


def fit(kind: str, cells: NDArray[Any], missing: int = 0, **preparation: Any) -> Any:
    stored = "text" if cells.dtype.kind == "O" else "number"
    column = Column("c", kind, stored, missing=missing, date_format="iso")  # type: ignore[arg-type]
    return encoding.fit(column, cells, PreparationSpec.model_validate(preparation))


def test_most_frequent_categories_have_columns_and_the_rest_share_one() -> None:
    cells = texts(*["a"] * 300, *["b"] * 200, *["c"] * 10, *["d"] * 6, *["rare"] * 4)
    limited = fit("categorical", cells, max_categories=2)
    assert limited == CategoricalEncoder("c", ("a", "b"), other=True, rare=("c", "d", "rare"))
    assert fit("categorical", cells) == CategoricalEncoder("c", ("a", "b", "c", "d"), other=True, rare=("rare",))
    assert fit("categorical", cells[200:510]) == CategoricalEncoder("c", ("a", "b", "c"))
    assert fit("categorical", cells[510:]) == CategoricalEncoder("c", ("d", "rare")), "nothing is rare in so few rows"


def test_column_that_training_rows_lack_wholly_is_fitted_nevertheless() -> None:
    nothing = texts(None, None)
    assert fit("categorical", nothing, missing=2) == CategoricalEncoder("c", (), other=True, gaps=True, holds="text")
    assert fit("numeric", np.array([np.nan, np.nan]), missing=2) == NumericEncoder("c", gaps=True)
    assert fit("date", nothing, missing=2) == DateEncoder("c", "iso", gaps=True)


def test_quantiles_make_a_heavy_tail_normal() -> None:
    cells = np.random.default_rng(0).lognormal(0, 3, 5000)
    encoder = fit("numeric", cells, numeric="quantile")
    assert isinstance(encoder.transform, Quantile)
    mapped = encoder.encode(cells)[:, 0]
    assert (abs(mapped.mean()), mapped.std()) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.03))
    assert abs(((mapped - mapped.mean()) ** 3).mean()) < 0.05


def test_robust_scaling_survives_columns_that_are_mostly_one_value() -> None:
    cells = np.array([0.0] * 90 + [1.0] * 9 + [1000.0])
    encoder = fit("numeric", cells, numeric="robust")
    assert encoder.transform == Robust(0.0, 500.0)
    tiny = fit("numeric", np.linspace(0, 1e-17, 101), numeric="robust")
    assert (tiny.transform.center, tiny.transform.scale) == (pytest.approx(5e-18), pytest.approx(5e-18))
    assert np.isfinite(encoder.encode(cells)).all()


def test_date_with_a_time_of_day_gets_the_hour() -> None:
    assert not fit("date", texts("2020-01-01", "2020-01-02")).has_time
    assert fit("date", texts("2020-01-01", "2020-01-02T10:00")).has_time


def test_prepared_probe_holds_rows_of_every_part() -> None:
    data: Prepared = prepare(spec("classification"), *messy())
    assert len(data.probe) == len(data.raw_probe) == ROWS


def test_target_is_scaled_by_the_training_rows_only() -> None:
    table, columns = messy()
    before = prepare(spec(), table, columns)
    held_out = np.concatenate([before.split.validation, before.split.test])
    far = table.columns["y"].copy()
    far[held_out] = 1e6
    assert prepare(spec(), Table({**table.columns, "y": far}), columns).outputs == before.outputs


def test_column_that_never_changed_in_training_never_reaches_the_network() -> None:
    """One that begins only later would otherwise arrive in its own units, at weights that nothing has trained."""
    table, columns = messy()
    late = np.where(np.arange(ROWS) < 170, np.nan, 1e5)
    constant = np.where(np.arange(ROWS) < 170, 2000.0, 2020.0)
    columns = {**columns, "amount": Column("amount", "numeric", missing=170), "count": Column("count", "numeric")}
    asked = spec("classification", split="order", test_fraction=0.15)
    data = prepare(asked, Table({**table.columns, "amount": late, "count": constant}), columns)
    assert data.inputs.encoded[:3] == ("amount", "amount: missing", "count")
    assert not data.test.rows[:, :3].any()


def test_months_on_both_sides_of_the_year_are_no_noise() -> None:
    table, columns = messy()
    halves = texts(*(f"2020-{1 + 6 * (i % 2):02}-0{1 + i % 5}" for i in range(ROWS)))
    data = prepare(spec("classification"), Table({**table.columns, "day": halves}), columns)
    later = check([{**data.raw_probe[0], "day": "2015-03-15"}], data.inputs).encoded()
    assert np.abs(standardize(later, data.inputs)).max() < 1e3


def test_gap_stands_in_the_middle_of_transformed_numbers() -> None:
    cells = np.append(np.random.default_rng(0).lognormal(0, 3, 5000), np.nan)
    for numeric in ("robust", "quantile"):
        encoder = fit("numeric", cells, missing=1, numeric=numeric)
        encoded = encoder.encode(cells)[:, 0]
        assert encoded[-1] == pytest.approx(encoded[:-1].mean())


def test_words_for_gaps_are_known_in_every_column() -> None:
    table, columns = messy()
    data = prepare(spec("classification"), table, columns, missing_words=("NA",))
    asked = {**data.raw_probe[1], "amount": "?", "city": "NA", "day": "NA"}
    gone = {**data.raw_probe[1], "amount": None, "city": None, "day": None}
    np.testing.assert_array_equal(check([asked], data.inputs).encoded(), check([gone], data.inputs).encoded())


def test_large_whole_numbers_stay_apart_beside_gaps() -> None:
    big = texts(*[2**53 + 1] * 30, *[2**53 + 3] * 30, None)
    column = Column("c", "categorical", "number", is_integer=True, missing=1)
    assert encoding.fit(column, big, PreparationSpec()).columns[:2] == (f"c = {2**53 + 1}", f"c = {2**53 + 3}")
    small = encoding.fit(column, np.array([0.0, 1.0, np.nan] * 30), PreparationSpec())
    assert small.columns == ("c = 0", "c = 1", "c: missing")


def test_many_rows_are_prepared_in_pieces() -> None:
    rows = 20_000
    rng = np.random.default_rng(0)
    table = Table({"x": rng.normal(5, 2, rows), "y": rng.normal(size=rows)})
    asked = JobSpec.model_validate({"dataset": "d", "target": "y", "features": ["x"], "task": "regression"})
    calls: list[None] = []
    data = prepare(
        asked, table, {name: Column(name, "numeric", missing=0) for name in "xy"}, on_wait=lambda: calls.append(None)
    )
    standard = (table.columns["x"][data.split.training] - data.inputs.mean[0]) / data.inputs.scale[0]
    np.testing.assert_array_equal(data.training.rows[:, 0], standard.astype(np.float32))
    assert len(calls) >= 4
    place = np.linspace(0, rows - 1, 512).astype(int)
    assert [row["x"] for row in data.raw_probe] == table.columns["x"][place].tolist()


class Heard(Exception):
    """Stands for a word that an attempt hears."""


def test_word_is_heard_while_the_classes_are_found() -> None:
    """They are found first: this table cannot even be divided."""
    table, columns = messy()
    words = np.full(ROWS, "nothing", object)

    def hear() -> None:
        raise Heard

    asked = spec("classification", split="column", split_column="part", test_fraction=None)
    with pytest.raises(Heard):
        prepare(asked, Table({**table.columns, "part": words}), columns, on_wait=hear)


def test_moments_in_pieces_are_those_of_the_whole() -> None:
    cells = texts(*(f"c{i % 40}" for i in range(encoding.CHUNK_ROWS + 5_000)))
    encoder = fit("categorical", cells)
    expected = encoding.moments(encoder.encode(cells))
    for found, wanted in zip(encoding.encoded_moments(encoder, cells), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
