"""Why a request is not let in, or a key not made, one class per fact.

SelfnormError
├── Unauthorized            who asks is not known
│   ├── NoKey                   no key was shown
│   └── InvalidKey              what was shown opens nothing: the same words whatever is wrong with it
├── Forbidden               who asks may not have this
│   ├── MissingScope            the key has not the scope that the route needs
│   ├── OtherSite               a page of another site has sent it
│   ├── UnknownHost             it was sent to a name that this service does not answer to
│   └── ThroughProxy            a proxy has passed it on, and nobody is asked for a key
└── NoSuchKey, BadKeyRequest    what the command line says of keys
"""

from collections.abc import Sequence

from service.domain.errors import SelfnormError
from service.domain.wording import shown


class Unauthorized(SelfnormError):
    """Who asks is not known."""

    code = "unauthorized"


class NoKey(Unauthorized):
    """The request shows no key, and the route needs one."""

    code = "no_key"

    def __init__(self) -> None:
        super().__init__(
            "a key is needed here; send the header Authorization: Bearer KEY. "
            "Who runs the service makes one by: selfnorm keys create"
        )


class InvalidKey(Unauthorized):
    """The key that the request shows is unknown, revoked, expired or malformed."""

    code = "invalid_key"

    def __init__(self) -> None:
        super().__init__("the key that was sent opens nothing here: it is unknown, revoked, expired or not whole")


class Forbidden(SelfnormError):
    """Who asks is known, and may not have this."""

    code = "forbidden"


class MissingScope(Forbidden):
    """The key is good, but has not the scope that the route needs."""

    code = "missing_scope"

    def __init__(self, needed: Sequence[str], held: Sequence[str]) -> None:
        self.needed = tuple(needed)
        super().__init__(
            f"this needs a key with the scope {' or '.join(needed)}; this one has {', '.join(held) or 'none'}. "
            "Ask who runs the service for another key"
        )


class OtherSite(Forbidden):
    """A page of another web site has sent the request."""

    code = "cross_site"

    def __init__(self, origin: str | None = None) -> None:
        came = f" ({shown(origin)})" if origin else ""
        super().__init__(
            f"a page of another site{came} may change nothing here, and read nothing; send the request from a page of "
            "this service, or from a program with a key"
        )


class UnknownHost(Forbidden):
    """The request was sent to a name that this service does not answer to."""

    code = "unknown_host"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"this service does not answer to the name {shown(host)}; use localhost or 127.0.0.1, or name it in the "
            "setting SELFNORM_ALLOWED_HOSTS"
        )


class ThroughProxy(Forbidden):
    """A proxy has passed the request on to a service that asks nobody for a key, so that anybody may have sent it."""

    code = "through_proxy"

    def __init__(self) -> None:
        super().__init__(
            "this request came through a proxy, and this service lets in whoever uses its own machine; set "
            "SELFNORM_AUTHENTICATION=on and make a key: selfnorm keys create NAME"
        )


class NoSuchKey(SelfnormError):
    """No key has this id."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no key with the id {shown(key_id)}; selfnorm keys list shows them")


class BadKeyRequest(SelfnormError):
    """A key cannot be made as it was asked for."""
