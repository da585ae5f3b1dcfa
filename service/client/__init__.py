"""The Python client of a Selfnorm service: ``from service.client import Client``."""

from typing import TYPE_CHECKING, Any

from service.client.client import Client as Client
from service.client.errors import ApiError as ApiError
from service.client.errors import Conflict as Conflict
from service.client.errors import ConnectionFailed as ConnectionFailed
from service.client.errors import InvalidRequest as InvalidRequest
from service.client.errors import InvalidSettings as InvalidSettings
from service.client.errors import JobCancelled as JobCancelled
from service.client.errors import JobEnded as JobEnded
from service.client.errors import JobFailed as JobFailed
from service.client.errors import JobTimeout as JobTimeout
from service.client.errors import NotAuthorized as NotAuthorized
from service.client.errors import NotFound as NotFound
from service.client.errors import RateLimited as RateLimited
from service.client.errors import SelfnormError as SelfnormError
from service.client.errors import TooLarge as TooLarge
from service.client.errors import Unavailable as Unavailable
from service.client.errors import UnexpectedAnswer as UnexpectedAnswer

if TYPE_CHECKING:
    from service.client.asynchronous import AsyncClient as AsyncClient
    from service.client.estimators import SNNClassifier as SNNClassifier
    from service.client.estimators import SNNRegressor as SNNRegressor

_LATER = {"AsyncClient": "asynchronous", "SNNClassifier": "estimators", "SNNRegressor": "estimators"}


def __getattr__(name: str) -> Any:
    """Import what few programs need when it is asked for: scikit-learn takes seconds."""
    from importlib import import_module

    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        raise ImportError(
            f"{name} needs scikit-learn: pip install '.[estimators]', in the checkout of selfnorm"
        ) from error


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
