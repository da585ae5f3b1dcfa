"""The description of the API is made once, however many ask for it."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from service.api.description import Description

REQUEST = Request({"type": "http"})


def test_many_who_ask_at_once_share_one_making() -> None:
    made = []

    def describe() -> dict[str, Any]:
        made.append(1)
        return {"paths": {"/\u00fc": {}}}

    async def ask() -> None:
        description = Description(describe)
        answers = await asyncio.gather(*(description.answer(REQUEST) for _ in range(20)))
        answers.append(await description.answer(REQUEST))
        assert {bytes(answer.body) for answer in answers} == {'{"paths":{"/ü":{}}}'.encode()}
        assert answers[0].media_type == "application/json"

    asyncio.run(ask())
    assert made == [1]


def test_what_could_not_be_made_is_made_the_next_time() -> None:
    faults = [ValueError("not yet")]

    def describe() -> dict[str, Any]:
        if faults:
            raise faults.pop()
        return {}

    async def ask() -> None:
        description = Description(describe)
        with pytest.raises(ValueError, match="not yet"):
            await description.answer(REQUEST)
        assert (await description.answer(REQUEST)).body == b"{}"

    asyncio.run(ask())
