"""The scikit-learn estimators against a running service, by scikit-learn's own checks.

A check trains up to five networks, many of a form of their own that the worker must compile; all together take minutes.
So the suite runs those that train nothing and a choice of the others; SELFNORM_ALL_CHECKS=1 runs them all.
"""

import os
import pickle
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    estimator_checks_generator,
    parametrize_with_checks,
)

from service.client import Client, NotFound, SNNClassifier, SNNRegressor
from tests.patience import until
from tests.processes import running

DOCUMENT = Path(__file__).parents[2] / "docs/python.md"
TINY: dict[str, Any] = {"hidden_layers": 1, "units": 16, "epochs": 30, "learning_rate": 0.01}
CHECKED: dict[str, Any] = {**TINY, "validation_fraction": 0.0, "early_stopping": False}
"""With validation rows, ``check_class_weight_classifiers`` would fail: it weighs one class with next to nothing, and
the best epoch is chosen by rows that are not weighed."""

EXPECTED_TO_FAIL = {
    "check_sample_weight_equivalence_on_dense_data": "a row of weight 2 is not a row that comes twice: batches, their "
    "order and the split are drawn from the rows that are there, as in every training by batches",
}
IN_SUITE = {
    "check_estimators_dtypes",
    "check_classifiers_classes",
    "check_fit_idempotent",
    "check_sample_weights_pandas_series",
    "check_regressors_int",
}
"""Of the checks that train, those that tell most."""
TRAINS_NOTHING = {
    "check_all_zero_sample_weights_error",
    "check_classifiers_one_label",
    "check_classifiers_regression_target",
    "check_array_api_input",
    "check_complex_data",
    "check_decision_proba_consistency",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_estimator_sparse_tag",
    "check_estimator_tags_renamed",
    "check_estimators_empty_data_messages",
    "check_estimators_partial_fit_n_features",
    "check_estimators_unfitted",
    "check_fit1d",
    "check_fit2d_1sample",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_non_transformer_estimators_n_iter",
    "check_parameters_default_constructible",
    "check_requires_y_none",
    "check_set_params",
    "check_supervised_y_no_nan",
    "check_valid_tag_types",
}
WITH_ALL = "SELFNORM_ALL_CHECKS"


@pytest.fixture
def hears_interrupts() -> Iterator[None]:
    """SIGINT raises, even where whoever started the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module", autouse=True)
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running(tmp_path_factory.mktemp("estimators")) as service, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SELFNORM_URL", str(service.client.base_url))
        with Client() as opened:
            yield opened


@parametrize_with_checks(  # type: ignore[untyped-decorator]  # scikit-learn ships no types
    [SNNClassifier(**CHECKED), SNNRegressor(**CHECKED)],
    expected_failed_checks=lambda _: EXPECTED_TO_FAIL,
    xfail_strict=True,
)
def test_estimator_does_what_scikit_learn_expects(estimator: Any, check: Callable[[Any], None]) -> None:
    name = getattr(check, "func", check).__name__
    if name not in IN_SUITE | TRAINS_NOTHING and WITH_ALL not in os.environ:
        pytest.skip(f"it trains networks of a form of its own; {WITH_ALL}=1 runs it")
    check(estimator)


def test_checks_that_are_listed_are_checks_of_scikit_learn() -> None:
    there = {
        getattr(check, "func", check).__name__
        for estimator in (SNNClassifier(**CHECKED), SNNRegressor(**CHECKED))
        for _, check in estimator_checks_generator(estimator)
    }
    assert IN_SUITE | TRAINS_NOTHING | EXPECTED_TO_FAIL.keys() <= there


def test_documentation_counts_every_check() -> None:
    for estimator in (SNNClassifier(**CHECKED), SNNRegressor(**CHECKED)):
        row = re.search(rf"^\| `{type(estimator).__name__}` \| ([\d |]+) \|$", DOCUMENT.read_text(), re.MULTILINE)
        assert row is not None
        checks, passed, expected, skipped = (int(cell) for cell in row.group(1).split("|"))
        assert checks == passed + expected + skipped == sum(1 for _ in estimator_checks_generator(estimator))
        assert expected == len(EXPECTED_TO_FAIL)


def test_columns_of_frames_are_told_apart_by_their_names() -> None:
    check_dataframe_column_names_consistency("SNNRegressor", SNNRegressor(**CHECKED))


def test_frames_with_text_dates_and_gaps_are_taken_as_they_are() -> None:
    rows = pd.DataFrame(
        {
            "size": [float(row) if row % 9 else np.nan for row in range(90)],
            "city": ["Bern", "Basel", None] * 30,
            "since": pd.date_range("2020-01-01", periods=90),
            "id": [f"h{row:03}" for row in range(90)],
        },
        index=range(500, 590),
    )
    prices = pd.Series(np.arange(90.0), index=rows.index)
    with SNNRegressor(**TINY, random_state=0).fit(rows, prices) as regressor:
        assert regressor.job_.spec.features == ("size", "city", "since")  # the service leaves identifiers out
        answers = regressor.predict(rows)
        assert answers.shape == (90,)
        assert regressor.predict(pl.from_pandas(rows)).tobytes() == answers.tobytes()
        assert list(regressor.feature_names_in_) == list(rows.columns)
        with pytest.raises(ValueError, match="feature names"):
            regressor.predict(rows.rename(columns={"city": "town"}))


@pytest.mark.parametrize(
    "labels",
    [["no", "yes"], [False, True], [-1, 5], [1.0, 2.0], ["", "x"]],
    ids=["text", "flags", "whole", "real", "empty"],
)
def test_classes_are_those_of_the_target_whatever_they_are(labels: list[Any]) -> None:
    rows = np.linspace(-1, 1, 80).reshape(-1, 1)
    classes = np.array(labels)[(rows[:, 0] > 0).astype(int)]
    with SNNClassifier(**TINY, random_state=0, class_weight=dict.fromkeys(labels, 1.0)).fit(
        rows, classes
    ) as classifier:
        assert classifier.classes_.tolist() == labels
        assert classifier.predict(rows).dtype == classes.dtype
        assert classifier.score(rows, classes) > 0.9
        shares = classifier.predict_proba(rows)
        assert (classifier.classes_[shares.argmax(axis=1)] == classifier.predict(rows)).all()


def test_what_fit_makes_is_temporary_unless_its_model_is_named(client: Client) -> None:
    rows, flowers = load_iris(return_X_y=True)
    classifier = SNNClassifier(**TINY, random_state=0).fit(rows, flowers)
    first, stored = classifier.model_name_, classifier.job_.spec.dataset
    assert client.datasets.get(stored).name == first
    copy = pickle.loads(pickle.dumps(classifier))  # noqa: S301  # our own
    assert (copy.predict(rows) == classifier.predict(rows)).all()
    classifier.fit(rows, flowers)
    second = classifier.model_name_
    assert second != first
    with pytest.raises(NotFound):
        client.datasets.get(stored)
    with pytest.raises(NotFound, match=first):  # a process that has it loaded answers for a second more
        until(lambda: copy.predict(rows) is None)  # it never is
    kept = clone(classifier).set_params(model="flowers").fit(rows, flowers)
    for each in (classifier, kept):
        each.close()
        each.close()
    assert client.models.get("flowers").newest_version == kept.version_ == 1
    assert (kept.predict(rows) == flowers).mean() > 0.9
    names = [dataset.name for dataset in client.datasets.list()]
    assert names.count("flowers") == 1
    assert not {first, second} & {*names, *(job.spec.model for job in client.jobs.list())}


def test_refused_fit_leaves_nothing_behind(client: Client) -> None:
    before = {dataset.id for dataset in client.datasets.list()}
    with pytest.raises(ValueError, match="units"):
        SNNRegressor(units=0).fit(np.arange(40.0).reshape(20, 2), np.arange(20.0))
    assert {dataset.id for dataset in client.datasets.list()} == before


def test_interrupted_fit_leaves_nothing_behind(client: Client, hears_interrupts: None) -> None:
    before = [dataset.id for dataset in client.datasets.list()], [job.id for job in client.jobs.list()]
    stop = threading.Thread(target=interrupt_once_a_job_runs, args=(client.url,))
    stop.start()
    endless = SNNRegressor(**{**TINY, "epochs": 100_000}, early_stopping=False)
    with pytest.raises(KeyboardInterrupt):
        endless.fit(np.arange(40.0).reshape(20, 2), np.arange(20.0))
    stop.join()
    assert ([dataset.id for dataset in client.datasets.list()], [job.id for job in client.jobs.list()]) == before


def test_searches_and_pipelines_train_on_the_service() -> None:
    rows, flowers = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), SNNClassifier(**TINY, random_state=0))
    search = GridSearchCV(pipeline, {"snnclassifier__epochs": np.arange(1, 32, 30)}, cv=2)
    search.fit(rows, flowers)
    assert search.best_params_ == {"snnclassifier__epochs": 31}
    assert search.score(rows, flowers) > 0.85


def interrupt_once_a_job_runs(url: str) -> None:
    """Press Ctrl-C."""
    with Client(url) as client:
        until(lambda: list(client.jobs.list(state="running")))
    # To the main thread itself, or it would notice only when the service answers.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
