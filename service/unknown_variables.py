"""Variables that look like settings and are none: a misspelt limit would be no limit, without a word."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from service.settings import PREFIX, Settings

ELSEWHERE = frozenset(
    {
        "SELFNORM_URL",  # the client and its commands
        "SELFNORM_API_KEY",
        "SELFNORM_ADDRESS",  # docker-compose.yml
        "SELFNORM_PORT",
        "SELFNORM_WEBHOOK_SECRET",  # the receiver of the documentation
        "SELFNORM_WORKER_NAME",  # a worker tells its training process
        "SELFNORM_WORKER_PARENT",
        "SELFNORM_ALL_CHECKS",  # the tests
    }
)
"""What others read."""
KUBERNETES = ("_SERVICE_HOST", "_SERVICE_PORT", "_PORT")
"""How the variables end, or go on, with which Kubernetes tells of every service that has a name."""


def unknown(names: Iterable[str]) -> Iterator[str]:
    """Say of every variable that is meant for this service and that nobody reads, which one may be meant."""
    known = {name.upper() for name in Settings.model_fields}
    for name in sorted(names):
        spelt = name.upper()  # settings are read in either case
        word = spelt.removeprefix(PREFIX)
        if word == spelt or word in known or spelt in ELSEWHERE or _is_of_kubernetes(spelt):
            continue
        close = get_close_matches(word, known, n=1)
        advice = f"is {PREFIX}{close[0]} meant?" if close else "docs/settings.md lists them"
        yield f"{name} is no setting and has no effect; {advice}"


def _is_of_kubernetes(name: str) -> bool:
    return name.endswith(KUBERNETES) or any(f"{end}_" in name for end in KUBERNETES)
