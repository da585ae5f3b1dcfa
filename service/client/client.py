"""The client: everything that the service can do, as methods that block until it is done."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from service.client import health, predict, training
from service.client.methods import Resource, sent
from service.client.transport import Connection, Sender

if TYPE_CHECKING:
    import httpx2

    from service.client.comparisons import Comparisons
    from service.client.datasets import Datasets
    from service.client.jobs import Jobs
    from service.client.models import Models
    from service.client.predictions import Predictions
    from service.client.webhooks import Webhooks

DEFAULT_TIMEOUT_SECONDS = 60.0
DEFAULT_RETRIES = 4


class Client(Resource):
    """A service, to be asked by a program that waits for every answer; several threads may share one.

    ``url`` is where it runs, else SELFNORM_URL, else http://127.0.0.1:8000; ``api_key`` is your key where the service
    asks for one, else SELFNORM_API_KEY. An answer may take ``timeout_seconds``; what fails on the way, or is refused
    for the moment, is asked again up to ``retries`` times, and nothing is made twice for it.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        retries: int = DEFAULT_RETRIES,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        super().__init__(Sender(Connection(url, api_key, timeout_seconds, retries), transport))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Say where the service is, and nothing of the key."""
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._sender.connection.url

    @property
    def has_key(self) -> bool:
        """Whether requests show a key."""
        return "Authorization" in self._sender.connection.headers

    def close(self) -> None:
        """Close every connection."""
        self._sender.close()

    train = sent(training.train)
    probe = sent(training.probe)
    predict = sent(predict.predict)
    version = sent(health.version)
    ready = sent(health.ready)

    # What follows is imported when it is first asked for: the models of all answers take a third of a second.

    @cached_property
    def datasets(self) -> Datasets:
        """Data sets."""
        from service.client.datasets import Datasets

        return Datasets(self._sender)

    @cached_property
    def jobs(self) -> Jobs:
        """Trainings."""
        from service.client.jobs import Jobs

        return Jobs(self._sender)

    @cached_property
    def models(self) -> Models:
        """Models with their versions and aliases."""
        from service.client.models import Models

        return Models(self._sender)

    @cached_property
    def predictions(self) -> Predictions:
        """Predictions over stored data sets."""
        from service.client.predictions import Predictions

        return Predictions(self._sender)

    @cached_property
    def comparisons(self) -> Comparisons:
        """Comparisons of networks."""
        from service.client.comparisons import Comparisons

        return Comparisons(self._sender)

    @cached_property
    def webhooks(self) -> Webhooks:
        """Addresses that are told what happens."""
        from service.client.webhooks import Webhooks

        return Webhooks(self._sender)
