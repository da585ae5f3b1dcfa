"""What every answer has in common."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")


class View(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(extra="forbid")


class PageView(View, Generic[Item]):
    """Some items of a list, newest first."""

    items: list[Item]
    next_page_token: str | None


class ErrorReference(View):
    """Why a job failed."""

    code: str
    detail: str
