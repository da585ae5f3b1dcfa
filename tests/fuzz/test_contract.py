"""The service against its own OpenAPI document, asked by schemathesis; ``make fuzz`` does it for as long as asked."""

from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse

from tests.fuzz.contract import ask, run

# The threads of the service, which draw how long they wait, run meanwhile; hypothesis takes that for its own drawing.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module inside strategies")

LEAST_SERVED = 75
"""So many operations, of more than ninety, are at least once asked for what there is; which else, chance says."""


def test_service_does_what_its_document_says() -> None:
    found = ask(examples=4, seed=1)
    assert not found.faults, found.told()
    assert found.cases.total() > 3000
    assert {phase for phase, cases in found.cases.items() if cases} >= {"coverage", "fuzzing", "stateful"}
    assert len(found.served) >= LEAST_SERVED, found.unserved


def test_service_without_keys_does_what_its_document_says() -> None:
    found = ask(examples=2, seed=2, authentication=False, without=("coverage", "stateful"))
    assert not found.faults, found.told()
    assert found.cases.total() > 100


def test_faults_are_found() -> None:
    app = FastAPI()

    @app.get("/fails")
    def fails(number: int) -> dict[str, int]:
        raise HTTPException(500 if number > 0 else 404)

    @app.get("/lies", response_model=dict[str, int])
    def lies() -> Any:
        return JSONResponse({"number": "one"})

    @app.post("/takes")
    def takes(body: dict[str, Any]) -> dict[str, int]:
        raise HTTPException(400)

    found = run(app, {"seed": 1, "generation": {"max-examples": 5, "database": "none"}, "continue-on-failure": True})
    kinds = {(operation, kind.split()[0]) for operation, kind in found.faults}
    assert kinds >= {
        ("GET /fails", "ServerError"),
        ("GET /lies", "JsonSchemaError"),
        ("POST /takes", "RejectedPositiveData"),
    }
