"""``selfnorm version``: which version this is, and which one answers."""

from service.cli.connection import connected
from service.cli.options import ApiKey, AsJson, Url
from service.cli.printing import put_facts, put_json


def version(as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Say which version this is, and which version of the service answers, if any."""
    from importlib.metadata import version as version_of

    from service.client import SelfnormError

    own, server, reason = version_of("selfnorm"), None, ""
    with connected(url, api_key, retries=0) as client:
        try:
            server = client.version().version
        except SelfnormError as error:
            reason = str(error)
    if as_json:
        put_json({"client": own, "service": server, "url": client.url})
    else:
        put_facts([("selfnorm", own), ("service", f"{server} at {client.url}" if server else reason)])
