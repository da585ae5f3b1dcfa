"""Which requests take the short way (``hot_path``), and the protocol for uvicorn that knows them."""

from functools import partial

from service.api.dependencies import Services
from service.api.hot_path import MAX_BODY_BYTES, HotPath, HotProtocol, Route
from service.api.predict import PATH as PREDICT
from service.api.predict import short_way as predict


def protocol(services: Services) -> type[HotProtocol]:
    """Return the protocol for an application on these services."""
    native = partial(predict, services.serving)

    def find(url: bytes) -> Route | None:
        return native if url == PREDICT else None

    longest = min(MAX_BODY_BYTES, services.max_predict_bytes, services.max_json_bytes)
    return type("ServingProtocol", (HotProtocol,), {"hot": HotPath(services.gathering, find, longest)})
