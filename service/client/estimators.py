"""Self-normalizing networks as scikit-learn estimators: a service trains and answers, nothing is computed here.

Imports scikit-learn, which takes its time; ``service.client`` imports this when it is asked for an estimator.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d

from service.api.views.datasets import DatasetView
from service.api.views.jobs import JobView
from service.client import estimator_tables as tables
from service.client.client import Client
from service.client.errors import JobEnded
from service.client.leftovers import remove, undo
from service.client.predict import Prediction
from service.domain.spec import NumericPreparation, Task
from service.domain.training_spec import Optimizer

MAX_SEED = 2**32


class _Network(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What both estimators share: the parameters, and the way to the service and back."""

    def __init__(
        self,
        *,
        hidden_layers: int | None = None,
        units: int | Sequence[int] = 128,
        dropout: float | None = None,
        optimizer: Optimizer = "adamw",
        learning_rate: float | None = None,
        epochs: int = 300,
        batch_size: int | Literal["auto"] = 32,
        validation_fraction: float = 0.2,
        early_stopping: bool | int = True,
        preparation: NumericPreparation = "standard",
        random_state: Any = None,
        model: str | None = None,
        url: str | None = None,
    ) -> None:
        self.hidden_layers = hidden_layers
        self.units = units
        self.dropout = dropout
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.preparation = preparation
        self.random_state = random_state
        self.model = model
        self.url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __sklearn_tags__(self) -> Any:
        """Say that missing cells are taken."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def close(self) -> None:
        """Remove what ``fit`` has left on the service, unless ``model`` names it; it cannot be asked any more then."""
        if getattr(self, "is_temporary_", False):
            with Client(self.url) as client:
                remove(client, self.job_)
            self.is_temporary_ = False

    def _fit(self, table: Any, target: NDArray[Any], task: Task, weights: Any, more: Mapping[str, Any]) -> None:
        """Upload a table of features with the target beside it, train on it and wait for the model.

        Raises:
            SelfnormError: the service refused it, or the training failed.
        """
        earlier = self.job_ if getattr(self, "is_temporary_", False) else None
        name = self.model or f"{type(self).__name__}-{uuid.uuid4().hex[:12]}"
        columns = tables.with_target(table, target, weights)
        dataset: DatasetView | None = None
        with Client(self.url) as client:
            try:
                dataset = client.datasets.upload(columns.table, name, kinds=columns.kinds)
                job = client.jobs.submit(
                    dataset=dataset,
                    target=columns.target,
                    task=task,
                    network={"hidden_layers": self.hidden_layers, "units": self.units, "dropout": self.dropout},
                    training=self._training() | {**more, "sample_weight_column": columns.weight},
                    preparation={"numeric": self.preparation},
                    model=name,
                )
                self._take(client.jobs.wait(job))
            except BaseException as error:
                is_kept = self.model is not None and isinstance(error, JobEnded)  # whoever named it looks at why
                if not is_kept:
                    undo(self.url, name, dataset, is_temporary=self.model is None)
                raise
            if earlier is not None:
                remove(client, earlier)

    def _take(self, job: JobView) -> None:
        """Learn what a training has come to."""
        assert job.model is not None
        self.job_ = job
        self.model_name_, self.version_ = job.model.name, job.model.version
        self.n_iter_ = job.progress.epoch
        self.is_temporary_ = self.model is None

    def _training(self) -> dict[str, Any]:
        training: dict[str, Any] = {
            "optimizer": self.optimizer,
            "learning_rate": self.learning_rate,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "validation_fraction": self.validation_fraction,
            "seed": _seed(self.random_state),
        }
        if self.early_stopping is not True:
            training["early_stopping"] = {"patience": self.early_stopping} if self.early_stopping else None
        return training

    def _ask(self, X: Any) -> Prediction:  # noqa: N803  # scikit-learn's name
        check_is_fitted(self)
        table = tables.features_of(self, X, is_first=False)
        with Client(self.url) as client:
            return client.predict(
                self.model_name_, table.select(list(self.job_.spec.features or ())), version=self.version_
            )


class SNNClassifier(ClassifierMixin, _Network):  # type: ignore[misc]  # scikit-learn ships no types
    """A self-normalizing network that tells classes apart, trained and asked on a service.

    The parameters are those of a job's spec. ``early_stopping`` is True, False, or the epochs without improvement that
    end a training; ``random_state`` is its seed; ``class_weight`` None, "balanced" or a weight by class. With ``model``
    every fit adds a version to the model of that name, which stays; else ``close`` removes what fit has made. ``url``
    is where the service runs, else SELFNORM_URL; the API key is read from SELFNORM_API_KEY only, for parameters get
    logged.
    """

    def __init__(
        self,
        *,
        hidden_layers: int | None = None,
        units: int | Sequence[int] = 128,
        dropout: float | None = None,
        optimizer: Optimizer = "adamw",
        learning_rate: float | None = None,
        epochs: int = 300,
        batch_size: int | Literal["auto"] = 32,
        validation_fraction: float = 0.2,
        early_stopping: bool | int = True,
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
        preparation: NumericPreparation = "standard",
        random_state: Any = None,
        model: str | None = None,
        url: str | None = None,
    ) -> None:
        super().__init__(
            hidden_layers=hidden_layers,
            units=units,
            dropout=dropout,
            optimizer=optimizer,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            early_stopping=early_stopping,
            preparation=preparation,
            random_state=random_state,
            model=model,
            url=url,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803  # scikit-learn's name
        """Train on rows and their classes: an array of numbers, or a DataFrame with text, dates and gaps, too.

        Raises:
            ValueError, TypeError: they are not of such a form.
            SelfnormError: the service refused them, or the training failed.
        """
        table, y = tables.features_and_target(self, X, y)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds one class only, {self.classes_[0]!r}; at least two classes are needed")
        labels = tables.labels_of(self.classes_)
        more = {"class_weights": tables.class_weights(self.class_weight, self.classes_, labels)}
        self._fit(table, labels[codes], "classification", _weights(sample_weight, table), more)
        return self

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the likeliest class of every row."""
        answer = self.predict_proba(X)
        classes: NDArray[Any] = self.classes_[answer.argmax(axis=1)]
        return classes

    def predict_proba(self, X: Any) -> NDArray[np.floating]:  # noqa: N803
        """Return the probability of every class, (rows, classes), in the order of ``classes_``."""
        prediction = self._ask(X)
        assert prediction.probabilities is not None
        places = {label: place for place, label in enumerate(tables.labels_of(self.classes_).tolist())}
        shares = np.zeros((len(prediction), len(self.classes_)), prediction.probabilities.dtype)
        shares[:, [places[label] for label in prediction.classes or ()]] = prediction.probabilities
        return shares


class SNNRegressor(RegressorMixin, _Network):  # type: ignore[misc]  # scikit-learn ships no types
    """A self-normalizing network that predicts a number, trained and asked on a service.

    The parameters are those of ``SNNClassifier``, without ``class_weight``.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803  # scikit-learn's name
        """Train on rows and their targets: an array of numbers, or a DataFrame with text, dates and gaps, too.

        Raises:
            ValueError, TypeError: they are not of such a form.
            SelfnormError: the service refused them, or the training failed.
        """
        table, y = tables.features_and_target(self, X, y, y_numeric=True)
        y = column_or_1d(y, warn=True)
        self._fit(table, y.astype(np.float64), "regression", _weights(sample_weight, table), {})
        return self

    def predict(self, X: Any) -> NDArray[np.floating]:  # noqa: N803
        """Return the prediction for every row, in the target's units."""
        return self._ask(X).predictions


def _weights(sample_weight: Any, table: Any) -> Any:
    if sample_weight is None:
        return None
    return _check_sample_weight(sample_weight, np.empty((table.num_rows, 1)), ensure_non_negative=True)


def _seed(random_state: Any) -> int:
    """Return a seed for the service: a whole number is one, anything else draws one."""
    if isinstance(random_state, int | np.integer) and 0 <= random_state < MAX_SEED:
        return int(random_state)
    from sklearn.utils import check_random_state

    return int(check_random_state(random_state).randint(2**31 - 1))
