"""What HTTP shows of the service itself."""

from typing import Literal

from service.api.views.base import View


class HealthView(View):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReadinessView(View):
    """Whether every part is fit; a part that is not says what to do."""

    status: Literal["ready", "not ready"]
    parts: dict[str, str]


class ServiceVersionView(View):
    """Which version of the service this is."""

    name: Literal["selfnorm"] = "selfnorm"
    version: str
